//! Parameters of a call, from the query string and the body: section 1.1 of the facts.

use crate::sim::world::Form;

/// What a caller sent. A parameter that is given twice counts as given the last time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Params(pub(crate) Form);

/// Functions whose name does not tell that they change something.
const READS: [&str; 2] = ["auth", "session.newkey"];
/// The last words of the functions that always change something.
const ACTIONS: [&str; 15] = [
    "delete",
    "poweron",
    "poweroff",
    "reboot",
    "hardreboot",
    "enable",
    "disable",
    "opercancel",
    "on",
    "off",
    "autocreateipmi",
    "connwizipmi",
    "connwizport",
    "suspend",
    "resume",
];

impl Params {
    /// Reads the query string and the body. A body is a form, whatever its content type says, unless it is
    /// `multipart/form-data`, which some HTTP libraries make of an array of fields.
    pub(crate) fn read(query: Option<&str>, content_type: &str, body: &[u8]) -> Self {
        let mut params = Self::default();
        params.add_urlencoded(query.unwrap_or_default().as_bytes());
        match boundary(content_type) {
            Some(boundary) => params.add_multipart(body, &boundary),
            None => params.add_urlencoded(body),
        }
        params
    }

    fn add_urlencoded(&mut self, text: &[u8]) {
        for pair in text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let split = pair.iter().position(|byte| *byte == b'=').unwrap_or(pair.len());
            let value = pair.get(split + 1..).unwrap_or_default();
            self.0.insert(decode(&pair[..split]), decode(value));
        }
    }

    fn add_multipart(&mut self, body: &[u8], boundary: &str) {
        let text = String::from_utf8_lossy(body);
        for part in text.split(&format!("--{boundary}")) {
            let Some((head, value)) = part.split_once("\r\n\r\n") else { continue };
            let Some((_, name)) = head.split_once("name=\"") else { continue };
            let Some((name, _)) = name.split_once('"') else { continue };
            let value = value.strip_suffix("\r\n").unwrap_or(value);
            self.0.insert(name.to_owned(), value.to_owned());
        }
    }

    /// A parameter, or nothing.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// A parameter, if it was sent at all.
    pub(crate) fn sent(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The function that is called.
    pub(crate) fn func(&self) -> &str {
        self.get("func")
    }

    /// Whether a form is submitted.
    pub(crate) fn is_submitted(&self) -> bool {
        self.sent("sok").is_some_and(|sok| !sok.is_empty())
    }

    /// Whether this call asks for a change: a submitted form, or one of the functions that act at once.
    pub(crate) fn is_change(&self) -> bool {
        let func = self.func();
        let last = func.rsplit('.').next().unwrap_or(func);
        let acts = func.contains('.') && ACTIONS.contains(&last);
        let submits = self.is_submitted() && (func.contains('.') || func.ends_with("edit"));
        !READS.contains(&func) && (acts || submits)
    }

    /// What it is asked of: the object, and its parent where there is one.
    pub(crate) fn target(&self) -> String {
        match (self.get("plid"), self.get("elid")) {
            ("", elid) => elid.to_owned(),
            (plid, elid) => format!("{plid}/{elid}"),
        }
    }

    /// For the journal: without log-in data, and with passwords hidden.
    pub(crate) fn redacted(&self) -> Form {
        self.0
            .iter()
            .filter(|(name, _)| !matches!(name.as_str(), "auth" | "authinfo" | "func" | "out"))
            .map(|(name, value)| {
                let secret = name.contains("pass") || name == "confirm" || name == "key";
                (name.clone(), if secret && !value.is_empty() { "***".to_owned() } else { value.clone() })
            })
            .collect()
    }
}

fn boundary(content_type: &str) -> Option<String> {
    let rest = content_type.strip_prefix("multipart/form-data")?;
    let (_, boundary) = rest.split_once("boundary=")?;
    let boundary = boundary.split(';').next().unwrap_or_default().trim().trim_matches('"');
    Some(boundary.to_owned())
}

/// Undoes the percent encoding of one name or value. What is not encoded properly is taken as it stands.
fn decode(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let hex = |byte: u8| (byte as char).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        match (byte, tail) {
            (b'+', _) => bytes.push(b' '),
            (b'%', [high, low, after @ ..]) if hex(*high).is_some() && hex(*low).is_some() => {
                bytes.push(hex(*high).unwrap_or_default() * 16 + hex(*low).unwrap_or_default());
                rest = after;
            }
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::read(Some(query), "", b"")
    }

    #[test]
    fn decodes() {
        for (query, value) in [
            ("a=b", "b"),
            ("a=x+y%20z", "x y z"),
            ("a=%D0%B4", "д"),
            ("a=100%", "100%"),
            ("a=%zz", "%zz"),
            ("a", ""),
            ("a=1&a=2", "2"),
            ("a=b=c", "b=c"),
        ] {
            assert_eq!(params(query).get("a"), value, "{query}");
        }
    }

    #[test]
    fn body_wins_over_query() {
        let params = Params::read(Some("a=1&b=2"), "application/x-www-form-urlencoded", b"a=3");
        assert_eq!((params.get("a"), params.get("b")), ("3", "2"));
    }

    #[test]
    fn reads_multipart() {
        let body = b"--X\r\nContent-Disposition: form-data; name=\"func\"\r\n\r\nserver\r\n--X\r\nContent-Disposition: form-data; name=\"n\"\r\n\r\nline 1\r\nline 2\r\n--X--\r\n";
        let params = Params::read(None, "multipart/form-data; boundary=X", body);
        assert_eq!((params.func(), params.get("n")), ("server", "line 1\r\nline 2"));
    }

    #[test]
    fn tells_changes_from_reads() {
        for (query, change) in [
            ("func=server", false),
            ("func=server.edit&elid=1", false),
            ("func=server.edit&elid=1&sok=ok", true),
            ("func=server.poweroff&elid=1", true),
            ("func=server.connection", false),
            ("func=server.connection.off&elid=1", true),
            ("func=pdu.on&elid=1", true),
            ("func=server.filter&sok=ok", true),
            ("func=session.newkey&key=x&sok=ok", false),
            ("func=auth&sok=ok", false),
            ("func=traffic&sok=ok", false),
            ("func=ip.delete&elid=1", true),
        ] {
            assert_eq!(params(query).is_change(), change, "{query}");
        }
    }

    #[test]
    fn hides_secrets() {
        let shown = params("func=f&authinfo=a:b&auth=s&passwd=x&confirm=x&checkpasswd=x&recipe=null").redacted();
        assert_eq!(
            shown,
            [("checkpasswd", "***"), ("confirm", "***"), ("passwd", "***"), ("recipe", "null")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into()
        );
    }
}
