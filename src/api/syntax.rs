//! The forms that texts of a spec may have: the schema's patterns once more, in Rust.

fn alphanumeric(c: char) -> bool {
    c.is_ascii_alphanumeric()
}

/// Begins and ends with an `outer` character and has `inner` ones between.
fn enclosed(text: &str, outer: fn(char) -> bool, inner: fn(char) -> bool) -> bool {
    text.starts_with(outer) && text.ends_with(outer) && text.chars().all(inner)
}

/// Name of an object.
pub(super) fn name(text: &str) -> bool {
    let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    enclosed(text, outer, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'))
}

/// Name of a namespace.
pub(super) fn namespace(text: &str) -> bool {
    name(text) && !text.contains('.')
}

/// Something that can be read: more than spaces and control characters.
pub(super) fn not_blank(text: &str) -> bool {
    text.chars().any(|c| !c.is_whitespace() && !c.is_control())
}

/// Key of a Secret.
pub(super) fn secret_key(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| alphanumeric(c) || matches!(c, '.' | '_' | '-'))
}

/// Value of a label that is not empty.
pub(super) fn label(text: &str) -> bool {
    enclosed(text, alphanumeric, |c| alphanumeric(c) || matches!(c, '.' | '_' | '-'))
}

/// Value of a label.
pub(super) fn label_or_empty(text: &str) -> bool {
    text.is_empty() || label(text)
}

/// Log-in name at a panel.
pub(super) fn username(text: &str) -> bool {
    enclosed(text, alphanumeric, |c| alphanumeric(c) || matches!(c, '.' | '_' | '@' | '-'))
}

/// Mail address, as far as a form can tell.
pub(super) fn email(text: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && !part.contains(|c: char| c == '@' || c.is_whitespace());
    text.split_once('@').is_some_and(|(local, domain)| plain(local) && plain(domain))
}

/// Domain of a server.
pub(super) fn domain(text: &str) -> bool {
    text.split('.').all(|part| part.len() <= 63 && namespace(part))
}

/// Function of a COREmanager panel.
pub(super) fn function(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| alphanumeric(c) || matches!(c, '_' | '.'))
}

/// HTTP method.
pub(super) fn method(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_uppercase())
}

/// SHA-256 in hex, with or without colons.
pub(super) fn fingerprint(text: &str) -> bool {
    let mut rest = text;
    for _ in 0..32 {
        let Some((byte, after)) = rest.split_at_checked(2) else { return false };
        if !byte.chars().all(|c| c.is_ascii_hexdigit()) {
            return false;
        }
        rest = after.strip_prefix(':').unwrap_or(after);
    }
    rest.is_empty()
}

/// Address of a panel: https, or http on a loopback address; no user, query or fragment.
pub(super) fn panel_url(text: &str) -> bool {
    if text.contains(|c: char| c.is_whitespace() || matches!(c, '@' | '?' | '#' | '\\')) {
        return false;
    }
    let authority = |rest: &str| rest.split('/').next().unwrap_or_default().to_owned();
    if let Some(rest) = text.strip_prefix("https://") {
        return !authority(rest).is_empty();
    }
    text.strip_prefix("http://").is_some_and(|rest| loopback(&authority(rest)))
}

fn loopback(authority: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if digits(port) => host,
        _ => authority,
    };
    let parts: Vec<&str> = host.split('.').collect();
    matches!(host, "localhost" | "[::1]") || (parts.len() == 4 && parts[0] == "127" && parts.iter().all(|part| digits(part)))
}
