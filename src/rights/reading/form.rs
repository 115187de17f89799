//! The models in a form, parsed so strictly that all servers agree.

use memchr::memmem;

use super::{MOST_NAMES, Names, Unread, in_json};
use crate::openai::request_peek::MAX_MODEL;

/// The most bytes of a part's head.
const MOST_HEAD: usize = 4 << 10;

/// The models in a form.
pub(super) fn in_form(body: &[u8], boundary: &str) -> Result<Names, Unread> {
    const FRAMING: Unread = "the form's boundary is ambiguous";
    let delimiter = [b"--", boundary.as_bytes()].concat();
    let found: Vec<usize> = memmem::find_iter(body, &delimiter).collect();
    let (Some(&first), Some(&last)) = (found.first(), found.last()) else {
        return Err("the body is not a form");
    };
    if !body[..first].trim_ascii().is_empty() {
        return Err(FRAMING);
    }
    let mut names = Names::default();
    for (&start, end) in found.iter().zip(found.iter().skip(1).copied().chain([body.len()])) {
        let inside = &body[start + delimiter.len()..end];
        if start != first && !body[..start].ends_with(b"\r\n") {
            return Err(FRAMING);
        }
        if start == last {
            // Anything but the end could be a truncated part, or another part for a lenient server.
            let closes = inside.strip_prefix(b"--").is_some_and(|rest| rest.trim_ascii().is_empty());
            return if closes { Ok(names) } else { Err("the form has no end, or data after it") };
        }
        let part = inside.strip_prefix(b"\r\n").and_then(|part| part.strip_suffix(b"\r\n")).ok_or(FRAMING)?;
        let head = memmem::find(&part[..part.len().min(MOST_HEAD)], b"\r\n\r\n");
        let head = head.ok_or("a part of the form has an invalid head")?;
        part_names(&part[..head], &part[head + 4..], &mut names)?;
    }
    Err(FRAMING)
}

/// Adds the models in one part.
fn part_names(head: &[u8], value: &[u8], names: &mut Names) -> Result<(), Unread> {
    const HEAD: Unread = "a part of the form has an ambiguous head";
    let head = str::from_utf8(head).map_err(|_| HEAD)?;
    let mut name = None;
    for line in head.split("\r\n") {
        let (field, content) = line.split_once(':').ok_or(HEAD)?;
        if line.starts_with([' ', '\t']) || field.trim() != field || line.contains(['\r', '\n', '\0']) {
            return Err(HEAD);
        }
        match field.to_ascii_lowercase().as_str() {
            "content-disposition" if name.is_none() => name = Some(field_name(content).ok_or(HEAD)?),
            "content-disposition" | "content-transfer-encoding" => return Err(HEAD),
            _ => {}
        }
    }
    let name = name.ok_or(HEAD)?;
    // Some servers treat `model[]` as `model`.
    let base = name.split('[').next().unwrap_or_default().trim();
    if base.eq_ignore_ascii_case("model") {
        let text = str::from_utf8(&value[..value.len().min(MAX_MODEL + 1)]);
        names.all.push(text.map_err(|_| "the form's model is not UTF-8")?.to_owned());
        names.own = true;
    } else if value.trim_ascii_start().first() == Some(&b'{') && base.eq_ignore_ascii_case("session") {
        let within = in_json(value)?;
        names.all.extend(within.all);
        names.own |= within.own;
    }
    if names.all.len() > MOST_NAMES { Err("the form names too many models") } else { Ok(()) }
}

/// The `name` of a part's disposition; `None` if it is ambiguous.
fn field_name(disposition: &str) -> Option<&str> {
    let mut rest = disposition.split_once(';')?.1;
    let mut name = None;
    loop {
        let (key, behind) = rest.trim_start().split_once('=')?;
        let (value, behind) = match behind.strip_prefix('"') {
            Some(quoted) => {
                let (value, behind) = quoted.split_once('"')?;
                (value, behind.trim_start())
            }
            None => behind.split_at(behind.find(';').unwrap_or(behind.len())),
        };
        let key = key.trim().to_ascii_lowercase();
        if key == "name" {
            // Some servers decode escapes, others do not.
            if name.is_some() || value.contains(['\\', '%', '"']) {
                return None;
            }
            name = Some(value);
        } else if key.starts_with("name") {
            return None;
        }
        match behind.strip_prefix(';') {
            Some(more) => rest = more,
            None if behind.trim().is_empty() => return name,
            None => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(body: &str) -> Result<(Vec<String>, bool), Unread> {
        in_form(body.as_bytes(), "b").map(|names| (names.all, names.own))
    }

    #[test]
    fn a_form_is_read_as_every_server_reads_it() {
        let part = |name: &str, value: &str| {
            format!("--b\r\nContent-Disposition: form-data; {name}\r\n\r\n{value}\r\n")
        };
        let file = part("name=\"file\"; filename=\"a;\\b.wav\"", "RIFF\0model");
        let good = [file.as_str(), &part("name=\"model\"", "whisper-1"), "--b--\r\n"].concat();
        assert_eq!(form(&good), Ok((vec!["whisper-1".to_owned()], true)));
        let two =
            [part("name=model", "a"), part("name=\"Model[]\"; filename=\"x\"", "c"), "--b--".to_owned()];
        assert_eq!(form(&two.concat()).map(|names| names.0), Ok(vec!["a".to_owned(), "c".to_owned()]));
        let session = [part("name=\"session\"", "{\"model\":\"a\"}"), "--b--".to_owned()];
        assert_eq!(form(&session.concat()).map(|names| names.0), Ok(vec!["a".to_owned()]));
        for bad in [
            part("name=\"model\"", "a"),
            [part("name=\"model\"", "a").as_str(), "--b"].concat(),
            [part("name=\"model\"", "a").as_str(), "--b--\r\n--b\r\n\r\n--b--"].concat(),
            [part("name*=UTF-8''model", "a").as_str(), "--b--"].concat(),
            [part("name=\"mo\\del\"", "a").as_str(), "--b--"].concat(),
            [part("name=\"x\"; name=\"model\"", "a").as_str(), "--b--"].concat(),
            [part("name=\"x\"", "y --b\r\nz").as_str(), "--b--"].concat(),
            ["x", &part("name=\"x\"", "y"), "--b--"].concat(),
            "--b\nContent-Disposition: form-data; name=\"model\"\n\na\n--b--".to_owned(),
            "--b\r\nContent-Disposition: form-data;\r\n name=\"model\"\r\n\r\na\r\n--b--".to_owned(),
            "--b--".to_owned() + "more",
        ] {
            assert!(form(&bad).is_err(), "{bad:?}");
        }
    }
}
