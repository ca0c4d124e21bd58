//! Until when a certificate holds. That is all that is read of one: whether it is good is for those
//! to say to whom it is shown.

use k8s_openapi::ByteString;
use muster_core::time::Timestamp;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";
/// The tag of the version, which a certificate of the first one does not have.
const VERSION: u8 = 0xa0;
/// The tags of the two ways to write a time.
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// What base64 stands for.
pub(super) fn decoded(base64: &str) -> Option<Vec<u8>> {
    let text: String = base64.split_ascii_whitespace().collect();
    let quoted = serde_json::to_string(&text).ok()?;
    serde_json::from_str(&quoted).ok().map(|ByteString(bytes)| bytes)
}

/// When the first certificate in a file of PEM runs out; none where there is none to be read.
pub(super) fn not_after(pem: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, behind) = text.split_once(BEGIN)?;
    let (base64, _) = behind.split_once(END)?;
    of_der(&decoded(base64)?)
}

fn of_der(der: &[u8]) -> Option<Timestamp> {
    let (_, certificate, _) = element(der)?;
    let (_, mut rest, _) = element(certificate)?;
    if rest.first() == Some(&VERSION) {
        rest = element(rest)?.2;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest)?;
    let (_, _, behind) = element(validity)?;
    let (tag, text, _) = element(behind)?;
    time(tag, std::str::from_utf8(text).ok()?)
}

/// The next element: its tag, what it holds, and what comes behind it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (held, behind) = rest.split_at_checked(len)?;
    Some((*tag, held, behind))
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`.
fn time(tag: u8, text: &str) -> Option<Timestamp> {
    let century = match (tag, text.get(..2)?.parse::<u32>().ok()?) {
        (UTC_TIME, 0..50) => "20",
        (UTC_TIME, _) => "19",
        (GENERALIZED_TIME, _) => "",
        _ => return None,
    };
    let text = format!("{century}{text}");
    let part = |from: usize, to: usize| text.get(from..to);
    let (year, month, day) = (part(0, 4)?, part(4, 6)?, part(6, 8)?);
    let (hour, minute, second) = (part(8, 10)?, part(10, 12)?, part(12, 14)?);
    let time = format!("{year}-{month}-{day}T{hour}:{minute}:{second}Z");
    time.parse::<jiff::Timestamp>().ok().map(|at| Timestamp(at.as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of an authority of the moment; what it certifies has the same form.
    const PEM: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBgDCCASegAwIBAgIUVK63R8ntdmhe2fALFSCxPpqxY1MwCgYIKoZIzj0EAwIw\n\
FjEUMBIGA1UEAwwLbXVzdGVyLXRlc3QwHhcNMjYxMTI2MDYwNTIwWhcNMzYxMTIz\n\
MDYwNTIwWjAWMRQwEgYDVQQDDAttdXN0ZXItdGVzdDBZMBMGByqGSM49AgEGCCqG\n\
SM49AwEHA0IABGpBmUmpAwW2Y+Y6J1XAnIz5SrY4j2ERiiA3th6NdzAdsleAbTMC\n\
V4EqEO0LD9JNHsaxScgwuk06X/UxO/k/OWKjUzBRMB0GA1UdDgQWBBSr4fCVs67U\n\
Fyt3XuD/FMdyUJzLszAfBgNVHSMEGDAWgBSr4fCVs67UFyt3XuD/FMdyUJzLszAP\n\
BgNVHRMBAf8EBTADAQH/MAoGCCqGSM49BAMCA0cAMEQCIHmkHe6Z5CY85Cqk2JjO\n\
1Wd9WP8+cc1S6KZ1ma69VR5OAiAg+qHNrtugPgrZ4Op+fIuYa8ccNt7VbQHc62UK\n\
pS4quA==\n\
-----END CERTIFICATE-----";

    fn at(text: &str) -> Option<Timestamp> {
        text.parse::<jiff::Timestamp>().ok().map(|at| Timestamp(at.as_millisecond()))
    }

    #[test]
    fn the_end_of_a_certificate_is_read() {
        assert_eq!(not_after(PEM.as_bytes()), at("2036-11-23T06:05:20Z"));
        assert_eq!(time(UTC_TIME, "491231235959Z"), at("2049-12-31T23:59:59Z"));
        assert_eq!(time(UTC_TIME, "500101000000Z"), at("1950-01-01T00:00:00Z"));
        assert_eq!(time(GENERALIZED_TIME, "20500101000000Z"), at("2050-01-01T00:00:00Z"));
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        for text in ["", "x", BEGIN, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"] {
            assert_eq!(not_after(text.as_bytes()), None, "{text}");
        }
        for cut in 0..PEM.len() - END.len() - 1 {
            let text = format!("{}\n{END}", &PEM[..cut]);
            // However it is cut, it is read or it is not.
            let _ = not_after(text.as_bytes());
        }
        assert_eq!(element(&[0x30, 0x85, 1, 1, 1, 1, 1]), None);
        assert_eq!(element(&[0x30, 2, 1]), None);
    }
}
