//! Secrets that a request says in clear beside its credentials: told by the name that they go under, never by value.

/// Parameters of a query that hold a secret, as far as their names tell (RFC 6750, 2.3; signed URLs of object stores).
const PARAMETERS: &[(&str, &str)] = &[
    ("access_token", "secret-url:access_token"),
    ("api_key", "secret-url:api_key"),
    ("api-key", "secret-url:api-key"),
    ("apikey", "secret-url:apikey"),
    ("auth", "secret-url:auth"),
    ("auth_token", "secret-url:auth_token"),
    ("client_secret", "secret-url:client_secret"),
    ("id_token", "secret-url:id_token"),
    ("jwt", "secret-url:jwt"),
    ("key", "secret-url:key"),
    ("passwd", "secret-url:passwd"),
    ("password", "secret-url:password"),
    ("pwd", "secret-url:pwd"),
    ("refresh_token", "secret-url:refresh_token"),
    ("secret", "secret-url:secret"),
    ("sig", "secret-url:sig"),
    ("signature", "secret-url:signature"),
    ("token", "secret-url:token"),
    ("x-amz-security-token", "secret-url:x-amz-security-token"),
    ("x-amz-signature", "secret-url:x-amz-signature"),
    ("x-goog-signature", "secret-url:x-goog-signature"),
];

/// Header lines that are a secret and nothing else.
const HEADERS: &[(&str, &str)] = &[
    ("api-key", "secret-header:api-key"),
    ("private-token", "secret-header:private-token"),
    ("x-amz-security-token", "secret-header:x-amz-security-token"),
    ("x-api-key", "secret-header:x-api-key"),
    ("x-auth-token", "secret-header:x-auth-token"),
    ("x-vault-token", "secret-header:x-vault-token"),
];

/// Notes a header line that says a secret.
pub(super) fn note_header(marks: &mut Vec<&'static str>, name: &[u8], value: &[u8]) {
    if !value.is_empty() {
        note(marks, HEADERS, name);
    }
}

/// Notes the parameters of a target's query that say secrets.
pub(super) fn note_query(marks: &mut Vec<&'static str>, target: &str) {
    let Some((_, query)) = target.split_once('?') else { return };
    let query = query.split('#').next().unwrap_or_default();
    for pair in query.split(['&', ';']) {
        if let Some((name, value)) = pair.split_once('=') {
            if !value.is_empty() {
                note(marks, PARAMETERS, name.as_bytes());
            }
        }
    }
}

fn note(marks: &mut Vec<&'static str>, known: &[(&str, &'static str)], name: &[u8]) {
    let mark = known.iter().find(|(known, _)| name.eq_ignore_ascii_case(known.as_bytes())).map(|(_, mark)| *mark);
    if let Some(mark) = mark.filter(|mark| !marks.contains(mark)) {
        marks.push(mark);
    }
}
