//! The way of one call: from the request to the answer, with what goes wrong on the way.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Extension,
    body::{Body, Bytes},
    extract::{ConnectInfo, Request as HttpRequest, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream};

use super::{
    core::{Applied, Core, Place, Request},
    coremanager::{
        doc::Doc,
        params::Params,
        render::{self, Format},
    },
    faults::{Action, FaultSpec},
    journal::{EntryError, Outcome},
    line::Line,
    world::refusal::{Kind, Refusal},
};

/// A request with more than this is refused.
const BODY_LIMIT: usize = 4 << 20;

/// The panels behind one listening address.
#[derive(Clone)]
pub(crate) struct Door {
    pub(crate) core: Arc<Core>,
    pub(crate) panels: Arc<[usize]>,
}

impl Door {
    /// The panel at a path: `/dcimgr` or `/manager/dcimgr` (section 1.1).
    fn panel(&self, path: &str) -> Option<usize> {
        let path = path.trim_matches('/');
        let mgr = path.strip_prefix("manager/").unwrap_or(path);
        self.panels.iter().copied().find(|panel| self.core.panels[*panel].place.mgr() == mgr)
    }
}

/// How an answer travels.
enum Way {
    Whole,
    /// Not at all.
    Cut,
    /// Until so many bytes have been sent.
    Truncated(usize),
    /// Behind so many bytes of white space.
    Oversize(usize),
    /// In pieces of so many bytes.
    Drip(usize, Duration),
}

/// An answer.
struct Reply {
    status: StatusCode,
    content_type: &'static str,
    body: Vec<u8>,
    cookie: Option<String>,
    way: Way,
    /// The entry of the journal.
    entry: Option<u64>,
    /// Whether what is sent is the panel's answer.
    genuine: bool,
}

/// Takes one request for a panel.
pub(crate) async fn call(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    Extension(line): Extension<Line>,
    request: HttpRequest,
) -> Response {
    let (head, body) = request.into_parts();
    let Some(panel) = door.panel(head.uri.path()) else {
        return page(StatusCode::NOT_FOUND, "Not found").into_response();
    };
    let Ok(body) = axum::body::to_bytes(body, BODY_LIMIT).await else {
        return page(StatusCode::PAYLOAD_TOO_LARGE, "The request is too large").into_response();
    };
    let header = |name| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let place = door.core.panels[panel].place;
    let request = Request {
        panel,
        params: Params::read(head.uri.query(), header(header::CONTENT_TYPE), &body),
        cookie: session_cookie(header(header::COOKIE), place),
        peer: peer.ip(),
    };
    let core = door.core.clone();
    // A panel goes on when the caller hangs up, so the call has a task of its own.
    let Ok(reply) = tokio::spawn(async move { answer(&core, request).await }).await else {
        return page(StatusCode::INTERNAL_SERVER_ERROR, "The simulator failed").into_response();
    };
    if let (true, Some(entry)) = (reply.genuine, reply.entry) {
        door.core.delivered(entry);
    }
    send(reply, &line, place)
}

/// The session in the cookie `dcimgrses5` or `ipmgrses5` (section 1.2).
fn session_cookie(cookies: &str, place: Place) -> Option<String> {
    let name = format!("{}ses5", place.mgr());
    let mut pairs = cookies.split(';').filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
}

/// Makes the call, and all that goes wrong with it.
async fn answer(core: &Arc<Core>, request: Request) -> Reply {
    let Some((id, fault)) = core.meet(&request) else {
        return made(core, &request, None, Way::Whole);
    };
    let delay = fault.delay.map_or(Duration::ZERO, |delay| delay.0);
    match fault.action {
        Action::Error => {
            let refusal = refusal(&fault);
            let error = EntryError { kind: refusal.kind.word().to_owned(), object: refusal.object.clone() };
            let entry = core.note(&request, Outcome::Refused, id, Some(error));
            tokio::time::sleep(delay).await;
            Reply { entry, ..document(core, &request, &Err(refusal)) }
        }
        Action::Status | Action::Html => {
            let entry = core.note(&request, Outcome::Dropped, id, None);
            tokio::time::sleep(delay).await;
            let status = fault.status.and_then(|status| StatusCode::from_u16(status).ok()).unwrap_or(StatusCode::OK);
            let mut reply = page(status, "The panel is being updated");
            if let Some(body) = fault.body {
                reply.body = body.into_bytes();
            }
            Reply { entry, genuine: false, ..reply }
        }
        Action::DropBefore | Action::Down => {
            let entry = core.note(&request, Outcome::Dropped, id, None);
            tokio::time::sleep(delay).await;
            Reply { entry, way: Way::Cut, genuine: false, ..page(StatusCode::OK, "") }
        }
        Action::DropAnswer => {
            let reply = made(core, &request, Some(id), Way::Cut);
            tokio::time::sleep(delay).await;
            reply
        }
        Action::DelayBefore => {
            tokio::time::sleep(delay).await;
            made(core, &request, Some(id), Way::Whole)
        }
        Action::DelayAfter => {
            let reply = made(core, &request, Some(id), Way::Whole);
            tokio::time::sleep(delay).await;
            reply
        }
        Action::Late => {
            core.defer(request, id, delay);
            Reply { way: Way::Cut, genuine: false, ..page(StatusCode::OK, "") }
        }
        Action::Garbage => {
            let mut reply = made(core, &request, Some(id), Way::Whole);
            reply.body = b"\x00\xff{\"doc\":{\"elem\":[{\"id\":<<<".to_vec();
            Reply { genuine: false, ..reply }
        }
        Action::Truncate => made(core, &request, Some(id), Way::Truncated(fault.bytes.unwrap_or(10))),
        Action::Oversize => made(core, &request, Some(id), Way::Oversize(fault.bytes.unwrap_or(64 << 20))),
        Action::Drip => made(core, &request, Some(id), Way::Drip(fault.bytes.unwrap_or(1).max(1), delay)),
        Action::ExpireSessions => {
            core.end_sessions(request.panel);
            made(core, &request, Some(id), Way::Whole)
        }
        Action::Ignore if request.params.is_change() => {
            let entry = core.note(&request, Outcome::Ignored, id, None);
            Reply { entry, ..document(core, &request, &Ok(Doc::ok())) }
        }
        Action::Ignore => made(core, &request, Some(id), Way::Whole),
    }
}

/// Makes a call that came over no connection: its answer as a document, always whole. Faults of the configuration are not for it.
pub(crate) fn direct(core: &Core, request: &Request) -> Vec<u8> {
    let reply = made(core, request, None, Way::Whole);
    if let Some(entry) = reply.entry {
        core.delivered(entry);
    }
    reply.body
}

fn refusal(fault: &FaultSpec) -> Refusal {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    Refusal { kind: Kind::from_word(&text(&fault.kind)), object: text(&fault.object), value: text(&fault.value), msg: fault.msg.clone() }
}

/// Does the call and writes its answer.
fn made(core: &Core, request: &Request, fault: Option<u64>, way: Way) -> Reply {
    let Applied { doc, session, entry } = core.apply(request, fault);
    let genuine = match way {
        Way::Whole | Way::Oversize(_) | Way::Drip(..) => true,
        Way::Cut | Way::Truncated(_) => false,
    };
    Reply { cookie: session, way, entry, genuine, ..document(core, request, &doc) }
}

/// Writes a document in the format that the caller asks for. Errors, too, have the HTTP status 200 (section 1.4).
fn document(core: &Core, request: &Request, doc: &Result<Doc, Refusal>) -> Reply {
    let params = &request.params;
    let format = Format::of(params);
    let single = core.panels[request.panel].single;
    let body = match doc {
        Ok(doc) => render::write(doc, format, params.func(), single),
        Err(refusal) => render::write(&render::error(refusal, params.get("lang")), format, params.func(), single),
    };
    Reply { status: StatusCode::OK, content_type: format.content_type(), body, cookie: None, way: Way::Whole, entry: None, genuine: true }
}

fn page(status: StatusCode, text: &str) -> Reply {
    let body = format!("<!DOCTYPE html>\n<html><head><title>{text}</title></head><body><h1>{text}</h1><hr></body></html>\n");
    Reply {
        status,
        content_type: "text/html; charset=UTF-8",
        body: body.into_bytes(),
        cookie: None,
        way: Way::Whole,
        entry: None,
        genuine: true,
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        (self.status, [(header::CONTENT_TYPE, self.content_type)], self.body).into_response()
    }
}

fn send(reply: Reply, line: &Line, place: Place) -> Response {
    let cookie = reply.cookie.as_ref().map(|id| format!("{}ses5={id}; path=/; HttpOnly", place.mgr()));
    let status = reply.status;
    let head = [(header::CONTENT_TYPE, reply.content_type)];
    let mut response = match reply.way {
        Way::Whole => (status, head, reply.body).into_response(),
        Way::Cut => {
            line.cut();
            (status, head, reply.body).into_response()
        }
        Way::Truncated(bytes) => {
            let length = [(header::CONTENT_LENGTH, reply.body.len().to_string())];
            let sent = Bytes::copy_from_slice(&reply.body[..bytes.min(reply.body.len().saturating_sub(1))]);
            let broken = io::Error::from(io::ErrorKind::ConnectionAborted);
            // The pause lets what has been sent so far reach the other side before the connection breaks.
            let end = stream::once(async move {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Err(broken)
            });
            let body = Body::from_stream(stream::iter([Ok(sent)]).chain(end));
            (status, head, length, body).into_response()
        }
        Way::Oversize(bytes) => {
            const PIECE: usize = 64 << 10;
            let space = Bytes::from(vec![b' '; PIECE]);
            let pieces = (0..bytes.div_ceil(PIECE)).map(move |n| Ok::<_, io::Error>(space.slice(..PIECE.min(bytes - n * PIECE))));
            let body = Body::from_stream(stream::iter(pieces).chain(stream::iter([Ok(Bytes::from(reply.body))])));
            (status, head, body).into_response()
        }
        Way::Drip(bytes, delay) => {
            let pieces: Vec<Bytes> = reply.body.chunks(bytes).map(Bytes::copy_from_slice).collect();
            let pieces = stream::iter(pieces).then(move |piece| async move {
                tokio::time::sleep(delay).await;
                Ok::<_, io::Error>(piece)
            });
            (status, head, Body::from_stream(pieces)).into_response()
        }
    };
    if let Some(cookie) = cookie.and_then(|cookie| cookie.parse().ok()) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}
