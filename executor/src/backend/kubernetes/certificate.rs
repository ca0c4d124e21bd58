//! Whether a certificate has run out. That is all that is looked at: whether it is good is for
//! those to say to whom it is shown.

use std::time::Duration;

use k8s_openapi::ByteString;
use muster_core::time::Timestamp;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

/// What base64 stands for.
pub(super) fn decoded(base64: &str) -> Option<Vec<u8>> {
    let text: String = base64.split_ascii_whitespace().collect();
    let quoted = serde_json::to_string(&text).ok()?;
    serde_json::from_str(&quoted).ok().map(|ByteString(bytes)| bytes)
}

/// When the first certificate in a file of PEM ran out, if it has; none where there is none to be
/// read.
pub(super) fn ran_out(pem: &[u8], now: Timestamp) -> Option<Timestamp> {
    let certificate = CertificateDer::from_pem_slice(pem).ok()?;
    let certificate = EndEntityCert::try_from(&certificate).ok()?;
    let now = UnixTime::since_unix_epoch(Duration::from_millis(now.0.try_into().ok()?));
    // Nobody is trusted, so it will not do; but the first that is looked at is the time.
    let usage = KeyUsage::client_auth();
    match certificate.verify_for_usage(&[], &[], &[], now, usage, None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            i64::try_from(not_after.as_secs()).ok().map(|seconds| Timestamp(seconds * 1_000))
        }
        Ok(_) | Err(_) => None,
    }
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

    fn at(text: &str) -> Timestamp {
        Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
    }

    #[test]
    fn a_certificate_has_run_out_when_its_time_is_over() {
        let of = |now: &str| ran_out(PEM.as_bytes(), at(now));
        assert_eq!(of("2036-11-23T06:05:20Z"), None);
        assert_eq!(of("2036-11-23T06:05:21Z"), Some(at("2036-11-23T06:05:20Z")));
        assert_eq!(of("2020-01-01T00:00:00Z"), None, "it will hold");
    }

    #[test]
    fn what_is_no_certificate_has_not_run_out() {
        const END: &str = "-----END CERTIFICATE-----";
        let late = at("2999-01-01T00:00:00Z");
        let empty = format!("-----BEGIN CERTIFICATE-----\n!\n{END}");
        for text in ["", "x", END, &empty] {
            assert_eq!(ran_out(text.as_bytes(), late), None, "{text}");
        }
        for cut in 0..PEM.len() - END.len() - 3 {
            let text = format!("{}\n{END}", &PEM[..cut]);
            assert_eq!(ran_out(text.as_bytes(), late), None, "{cut}");
        }
    }
}
