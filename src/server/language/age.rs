//! Ages: `"30d"`, `"90m"`.

use std::time::Duration;

/// A hundred years.
const MAX_AGE: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Parses a whole number and its unit.
///
/// # Errors
/// If the text is no age. The error says what it must be.
pub(crate) fn age(text: &str) -> Result<Duration, String> {
    let wrong = || "must be a whole number with s, m, h or d, such as \"30d\"".to_owned();
    let unit = text.chars().next_back().ok_or_else(wrong)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 24 * 3600,
        _ => return Err(wrong()),
    };
    let digits = &text[..text.len() - unit.len_utf8()];
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    // A number that overflows is over the limit as well.
    let age = digits.parse::<u64>().ok();
    let age = age.and_then(|number| number.checked_mul(seconds));
    match age.map(Duration::from_secs) {
        Some(age) if !age.is_zero() && age <= MAX_AGE => Ok(age),
        _ => Err("must be more than 0 and at most a hundred years".to_owned()),
    }
}
