//! The few parts of a certificate's encoding (DER, X.690) that rustls does not tell.

use std::time::SystemTime;

/// The tag of a sequence.
pub const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const SHORT_TIME: u8 = 0x17;
const LONG_TIME: u8 = 0x18;

/// The elements of a DER value, each with its tag.
pub struct Der<'a>(pub &'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next element, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

impl<'a> Iterator for Der<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            if digits.len() > 4 {
                return None;
            }
            (digits.iter().fold(0, |length, digit| length << 8 | usize::from(*digit)), rest)
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }
}

/// When a certificate ends; nothing where that can't be read.
pub fn end_of(certificate: &[u8]) -> Option<SystemTime> {
    let fields = Der(Der(Der(certificate).expect(SEQUENCE)?).expect(SEQUENCE)?);
    // Serial number, algorithm, issuer, validity (RFC 5280, 4.1).
    let (_, validity) = fields.filter(|(tag, _)| *tag != VERSION).nth(3)?;
    let (tag, end) = Der(validity).nth(1)?;
    let end = str::from_utf8(end).ok()?.strip_suffix('Z')?;
    let (year, rest) = match tag {
        SHORT_TIME => {
            let (year, rest) = end.split_at_checked(2)?;
            // Years from 50 on are of the last century.
            (year.parse::<u16>().ok().map(|year| if year < 50 { 2000 + year } else { 1900 + year })?, rest)
        }
        LONG_TIME => {
            let (year, rest) = end.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let part = |at: usize| rest.get(at..at + 2);
    let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        .get(part(0)?.parse::<usize>().ok()?.checked_sub(1)?)?;
    let (day, hour, minute, second) = (part(2)?, part(4)?, part(6)?, part(8)?);
    // It is only read with the right day of the week.
    ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"].into_iter().find_map(|weekday| {
        let text = format!("{weekday}, {day} {month} {year} {hour}:{minute}:{second} GMT");
        httpdate::parse_http_date(&text).ok()
    })
}

/// When a certificate ended, where it has by now, for people.
pub fn ended(certificate: &[u8], now: SystemTime) -> Option<String> {
    end_of(certificate).filter(|end| *end <= now).map(httpdate::fmt_http_date)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn ending(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_after = date_time_ymd(year, month, day);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_s_end_is_read_in_both_notations() {
        for (year, month, day, expected) in [
            (2024, 2, 29, "Thu, 29 Feb 2024"),
            (2049, 12, 31, "Fri, 31 Dec 2049"),
            (2050, 1, 1, "Sat, 01 Jan 2050"),
        ] {
            let end = httpdate::fmt_http_date(end_of(&ending(year, month, day)).unwrap());
            assert_eq!(end, format!("{expected} 00:00:00 GMT"));
        }
        let certificate = ending(2024, 2, 29);
        let at = |text| httpdate::parse_http_date(text).unwrap();
        assert_eq!(ended(&certificate, at("Wed, 28 Feb 2024 23:59:59 GMT")), None);
        assert!(ended(&certificate, at("Thu, 29 Feb 2024 00:00:00 GMT")).is_some());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(at in 0..400_usize, byte in any::<u8>(), junk in any::<Vec<u8>>()) {
            end_of(&junk);
            let mut damaged = ending(2030, 1, 1);
            let at = at % damaged.len();
            damaged[at] = byte;
            end_of(&damaged);
        }
    }
}
