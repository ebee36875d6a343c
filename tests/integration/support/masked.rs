//! Output of `slackir rooms try` without what differs at each run: times, random ids, phx_ref.

/// What stands for such a value.
const MASK: &str = "..";

/// The text with `..` for these values.
pub(crate) fn masked(text: &str) -> String {
    let (mut out, mut rest, mut key) = (String::new(), text, "");
    while let Some(at) = rest.find(|c: char| c == '"' || c.is_ascii_digit()) {
        let (before, token) = rest.split_at(at);
        out.push_str(before);
        if let Some(inside) = token.strip_prefix('"') {
            let end = closing(inside);
            let (string, after) = inside.split_at(end);
            rest = after.strip_prefix('"').unwrap_or(after);
            let shown = if differs(key, string) { MASK } else { string };
            key = if rest.starts_with(':') { string } else { "" };
            out.push_str(&format!("\"{shown}\""));
        } else {
            let end = token.find(|c: char| !c.is_ascii_digit());
            let (digits, after) = token.split_at(end.unwrap_or(token.len()));
            rest = after;
            let is_time = digits.len() >= 10 || key == "retry_after_ms";
            out.push_str(if is_time { MASK } else { digits });
            key = "";
        }
    }
    out + rest
}

/// The end of a JSON string.
fn closing(inside: &str) -> usize {
    let mut escaped = false;
    let end = inside.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    });
    end.unwrap_or(inside.len())
}

fn differs(key: &str, value: &str) -> bool {
    let is_ref = key.starts_with("phx_ref");
    let is_time = value.len() == 24 && value.ends_with('Z') && value.as_bytes()[10] == b'T';
    let is_count = value.len() >= 10 && value.bytes().all(|byte| byte.is_ascii_digit());
    let hex = value.bytes().filter(u8::is_ascii_hexdigit).count();
    let is_id = hex == 32 && (value.len() == 32 || value.len() == 36);
    is_ref || is_time || is_count || is_id
}
