//! Values as text, as Go's `print` family writes them.

use serde_json::Value;

/// As `%v`: texts plain, lists in brackets, objects as `map[k:v]`.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(s) => s.clone(),
        Value::Array(all) => format!("[{}]", all.iter().map(plain).collect::<Vec<_>>().join(" ")),
        Value::Object(map) => {
            format!("map[{}]", map.iter().map(|(k, v)| format!("{k}:{}", plain(v))).collect::<Vec<_>>().join(" "))
        }
        other => other.to_string(),
    }
}

/// Widest field of a format: more than any terminal has columns.
const MAX_WIDTH: usize = 1000;

/// `printf`.
pub(super) fn printf(format: &str, args: &[Value]) -> String {
    let mut out = String::new();
    let mut args = args.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut flags = String::new();
        while let Some(f) = chars.next_if(|f| "-+# 0".contains(*f)) {
            flags.push(f);
        }
        let mut digits = || {
            let mut text = String::new();
            while let Some(d) = chars.next_if(char::is_ascii_digit) {
                text.push(d);
            }
            text.parse::<usize>().ok().map(|n| n.min(MAX_WIDTH))
        };
        let width = digits().unwrap_or(0);
        let precision = if chars.next_if_eq(&'.').is_some() {
            let mut text = String::new();
            while let Some(d) = chars.next_if(char::is_ascii_digit) {
                text.push(d);
            }
            Some(text.parse::<usize>().unwrap_or(0).min(MAX_WIDTH))
        } else {
            None
        };
        let Some(verb) = chars.next() else {
            out.push_str("%!(NOVERB)");
            break;
        };
        if verb == '%' {
            out.push('%');
            continue;
        }
        let Some(arg) = args.next() else {
            out += &format!("%!{verb}(MISSING)");
            continue;
        };
        let text = verbed(verb, arg, precision);
        let missing = width.saturating_sub(text.chars().count());
        if flags.contains('-') {
            out += &text;
            out.extend(std::iter::repeat_n(' ', missing));
        } else {
            let zero = flags.contains('0') && arg.is_number();
            out.extend(std::iter::repeat_n(if zero { '0' } else { ' ' }, missing));
            out += &text;
        }
    }
    let extra: Vec<String> = args.map(plain).collect();
    if !extra.is_empty() {
        out += &format!("%!(EXTRA {})", extra.join(", "));
    }
    out
}

fn verbed(verb: char, arg: &Value, precision: Option<usize>) -> String {
    let cut = |s: String| precision.map_or(s.clone(), |p| s.chars().take(p).collect());
    match (verb, arg) {
        ('v', v) => plain(v),
        // What else is a list of such numbers is printed by nobody as a text.
        ('s', Value::Array(all)) if !all.is_empty() && all.iter().all(|b| b.as_u64().is_some_and(|b| b < 256)) => {
            let bytes: Vec<u8> = all.iter().filter_map(|b| b.as_u64().and_then(|b| u8::try_from(b).ok())).collect();
            cut(String::from_utf8_lossy(&bytes).into_owned())
        }
        ('s', v @ (Value::String(_) | Value::Array(_) | Value::Object(_))) => cut(plain(v)),
        ('q', Value::String(s)) => format!("{s:?}"),
        ('q', Value::Array(all)) => {
            format!("[{}]", all.iter().map(|v| format!("{:?}", plain(v))).collect::<Vec<_>>().join(" "))
        }
        ('d', Value::Number(n)) if n.is_i64() || n.is_u64() => n.to_string(),
        ('x', Value::Number(n)) if n.is_u64() => format!("{:x}", n.as_u64().unwrap_or(0)),
        ('x', Value::String(s)) => s.bytes().map(|b| format!("{b:02x}")).collect(),
        ('c', Value::Number(n)) => {
            n.as_u64().and_then(|n| u32::try_from(n).ok()).and_then(char::from_u32).unwrap_or('\u{fffd}').to_string()
        }
        ('f', Value::Number(n)) => format!("{:.*}", precision.unwrap_or(6), n.as_f64().unwrap_or(0.0)),
        ('g', Value::Number(n)) => n.to_string(),
        ('t', Value::Bool(b)) => b.to_string(),
        ('T', _) => kind(arg).to_owned(),
        (verb, v) => format!("%!{verb}({}={})", kind(v), plain(v)),
    }
}

/// Go's name for a value's type.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(n) if n.is_f64() => "float64",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
