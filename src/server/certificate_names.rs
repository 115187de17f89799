//! The names in a client's certificate.

use std::net::IpAddr;

use rustls::pki_types::CertificateDer;

use crate::der::{Der, SEQUENCE};

/// Tags of DER (X.690) and, from 0x80 on, of a `GeneralName` (RFC 5280, section 4.2.1.6).
const OBJECT: u8 = 0x06;
const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
const EXTENSIONS: u8 = 0xa3;
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
const ADDRESS: u8 = 0x87;
/// The object identifier of the subject's alternative names, 2.5.29.17.
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

/// The DNS names, URIs, e-mail addresses and IP addresses of a certificate that rustls has
/// verified. Unreadable names are skipped. (webpki reports only DNS names and URIs.)
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<Box<str>> {
    alternative_names(certificate).unwrap_or_default()
}

fn alternative_names(certificate: &[u8]) -> Option<Vec<Box<str>>> {
    let certificate = &mut Der(Der(certificate).expect(SEQUENCE)?);
    let fields = Der(certificate.expect(SEQUENCE)?);
    let (_, extensions) = fields.into_iter().find(|(tag, _)| *tag == EXTENSIONS)?;
    for (_, extension) in Der(Der(extensions).expect(SEQUENCE)?) {
        let mut parts = Der(extension).filter(|(tag, _)| *tag != BOOLEAN);
        if parts.next() == Some((OBJECT, ALTERNATIVE_NAMES)) {
            let (_, value) = parts.next().filter(|(tag, _)| *tag == OCTETS)?;
            return Some(
                Der(Der(value).expect(SEQUENCE)?).filter_map(|(tag, name)| text(tag, name)).collect(),
            );
        }
    }
    None
}

fn text(tag: u8, name: &[u8]) -> Option<Box<str>> {
    match tag {
        EMAIL | DNS | URI => {
            let is_plain = !name.is_empty() && name.iter().all(u8::is_ascii_graphic);
            std::str::from_utf8(name).ok().filter(|_| is_plain).map(Into::into)
        }
        ADDRESS => {
            let address = match name.len() {
                4 => IpAddr::from(<[u8; 4]>::try_from(name).ok()?),
                _ => IpAddr::from(<[u8; 16]>::try_from(name).ok()?),
            };
            Some(address.to_string().into())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(names: Vec<SanType>) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn every_kind_of_name_is_read_in_its_order() {
        let names = vec![
            SanType::DnsName("team-a.corp".try_into().unwrap()),
            SanType::URI("spiffe://corp/team-a".try_into().unwrap()),
            SanType::Rfc822Name("team-a@corp.example".try_into().unwrap()),
            SanType::IpAddress("10.1.2.3".parse().unwrap()),
            SanType::IpAddress("2001:db8::7".parse().unwrap()),
        ];
        let read = super::names(&CertificateDer::from(certificate(names)));
        let expected =
            ["team-a.corp", "spiffe://corp/team-a", "team-a@corp.example", "10.1.2.3", "2001:db8::7"];
        assert_eq!(read.iter().map(AsRef::as_ref).collect::<Vec<&str>>(), expected);
        assert!(super::names(&CertificateDer::from(certificate(Vec::new()))).is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(at in 0..600_usize, byte in any::<u8>(), junk in any::<Vec<u8>>()) {
            names(&CertificateDer::from(junk));
            let mut damaged = certificate(vec![SanType::DnsName("a.corp".try_into().unwrap())]);
            let at = at % damaged.len();
            damaged[at] = byte;
            names(&CertificateDer::from(damaged));
        }
    }
}
