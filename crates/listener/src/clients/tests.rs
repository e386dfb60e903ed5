use jiff::Timestamp;
use tollgate_testkit::{Authority, Leaf};

use super::*;

const NOW: u64 = 1_800_000_000;

fn at(second: u64) -> Timestamp {
    Timestamp::from_second(second.try_into().expect("in range")).expect("in range")
}

fn trust(authorities: &[&Authority], lists: &[String]) -> Arc<CurrentTrust> {
    Arc::new(CurrentTrust::new(Arc::new(parse(authorities, lists).expect("good"))))
}

fn parse(authorities: &[&Authority], lists: &[String]) -> Result<ClientTrust, ClientTrustError> {
    let bundle: String = authorities.iter().map(|authority| authority.pem()).collect();
    let lists = (!lists.is_empty()).then(|| lists.concat());
    ClientTrust::parse(bundle.as_bytes(), lists.as_ref().map(String::as_bytes))
}

fn shown(leaf: &Leaf, trust: &Arc<CurrentTrust>) -> ClientCertificate {
    let chain = CertificateDer::pem_slice_iter(leaf.chain.as_bytes()).collect::<Result<_, _>>().expect("PEM");
    ClientCertificate::new(chain, trust.clone()).expect("a certificate")
}

fn outcome(leaf: &Leaf, trust: &Arc<CurrentTrust>) -> Result<(), ClientCertificateError> {
    shown(leaf, trust).check(NOW).map(|_| ())
}

fn digest_of(hex: &str) -> Digest {
    let mut out = [0; 32];
    for (byte, digits) in out.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).expect("ASCII"), 16).expect("hex");
    }
    out
}

#[test]
fn only_what_the_ca_issued_to_a_client_is_good() {
    use ClientCertificateError as E;

    let (ca, stranger) = (Authority::new("our CA"), Authority::new("our CA"));
    let trust = trust(&[&ca], &[]);
    let purpose = |ca: &Authority, purpose| {
        ca.issue_with(&["dns:shop.example"], |params| params.extended_key_usages = vec![purpose])
    };
    assert_eq!(outcome(&ca.issue(&["dns:shop.example"]), &trust), Ok(()));
    assert_eq!(outcome(&ca.intermediate("below").issue(&["dns:shop.example"]), &trust), Ok(()));
    let server = rcgen::ExtendedKeyUsagePurpose::ServerAuth;
    let as_ca = |params: &mut rcgen::CertificateParams| {
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    };
    for (leaf, error) in [
        // Another CA of the same name, and one below it.
        (stranger.issue(&["dns:shop.example"]), E::Issuer),
        (stranger.intermediate("below").issue(&["dns:shop.example"]), E::Issuer),
        (ca.issue_between(&["dns:shop.example"], at(NOW - 100), at(NOW - 1)), E::Expired),
        (ca.issue_between(&["dns:shop.example"], at(NOW + 1), at(NOW + 100)), E::NotYetValid),
        (purpose(&ca, server), E::Purpose),
        (ca.issue_with(&["dns:shop.example"], as_ca), E::Form),
    ] {
        assert_eq!(outcome(&leaf, &trust), Err(error));
    }
}

#[test]
fn a_certificate_that_signs_itself_is_nobodys() {
    let ca = Authority::new("our CA");
    let mut params = rcgen::CertificateParams::new(["shop.example".to_owned()]).expect("a name");
    // The subject of the CA.
    params.distinguished_name.push(rcgen::DnType::CommonName, "our CA");
    let key = rcgen::KeyPair::generate().expect("a key");
    let own = params.self_signed(&key).expect("signed");
    let trust = trust(&[&ca], &[]);
    let own = ClientCertificate::new(vec![own.der().clone()], trust).expect("a certificate");
    assert_eq!(own.check(NOW).map(|_| ()), Err(ClientCertificateError::Issuer));
}

#[test]
fn it_is_told_which_ca_issued_it() {
    let (one, other) = (Authority::new("CA"), Authority::new("CA"));
    let trust = trust(&[&one, &other], &[]);
    for (ca, stranger) in [(&one, &other), (&other, &one)] {
        for leaf in [ca.issue(&["dns:shop.example"]), ca.intermediate("CA").issue(&["dns:shop.example"])] {
            let issuers = shown(&leaf, &trust).check(NOW).expect("good");
            assert!(issuers.contains(&digest_of(&ca.fingerprint())));
            assert!(!issuers.contains(&digest_of(&stranger.fingerprint())));
        }
    }
}

#[test]
fn what_was_good_in_the_handshake_is_looked_at_again() {
    use ClientCertificateError as E;

    let (ca, stranger) = (Authority::new("CA"), Authority::new("other CA"));
    let trust = trust(&[&ca], &[ca.revoke(&[], at(NOW + 50))]);
    let leaf = ca.issue_between(&["dns:shop.example"], at(NOW - 100), at(NOW + 100));
    let shown = shown(&leaf, &trust);
    let check = |second| shown.check(second).map(|_| ());
    assert_eq!(check(NOW), Ok(()));
    assert_eq!(check(NOW), Ok(()), "the same second");
    // The list of revoked certificates ends before the certificate does: nobody knows.
    assert_eq!(check(NOW + 50), Err(E::ListsMissing));
    assert!(E::ListsMissing.is_unavailable());
    let replace = |authorities: &[&Authority], lists: &[String]| {
        trust.replace(Arc::new(parse(authorities, lists).expect("good")));
    };
    replace(&[&ca], &[ca.revoke(&[], at(NOW + 500))]);
    assert_eq!((check(NOW + 50), check(NOW + 101)), (Ok(()), Err(E::Expired)));
    assert_eq!(check(NOW), Ok(()), "a clock that was set back");
    replace(&[&ca], &[ca.revoke(&[&leaf], at(NOW + 500))]);
    assert_eq!(check(NOW), Err(E::Revoked));
    replace(&[&stranger], &[]);
    assert_eq!(check(NOW), Err(E::Issuer));
}

#[test]
fn with_revocation_lists_each_ca_needs_one() {
    use ClientCertificateError as E;

    let ca = Authority::new("CA");
    let below = ca.intermediate("below");
    let (direct, deep) = (ca.issue(&["dns:a.example"]), below.issue(&["dns:b.example"]));
    let (of_ca, of_below) = (ca.revoke(&[], at(NOW + 9)), below.revoke(&[], at(NOW + 9)));
    let only_root = trust(&[&ca], std::slice::from_ref(&of_ca));
    assert_eq!(outcome(&direct, &only_root), Ok(()));
    assert_eq!(outcome(&deep, &only_root), Err(E::ListsMissing));
    let both = trust(&[&ca], &[of_ca.clone(), of_below]);
    assert_eq!(outcome(&deep, &both), Ok(()));
    let taken_back = trust(&[&ca], &[of_ca, below.revoke(&[&deep], at(NOW + 9))]);
    assert_eq!(outcome(&deep, &taken_back), Err(E::Revoked));
    // A list that somebody else signed in the name of the CA is none.
    let forged = trust(&[&ca], &[Authority::new("CA").revoke(&[], at(NOW + 9))]);
    assert!(outcome(&direct, &forged).is_err());
}

#[test]
fn a_ca_that_has_ended_issues_nothing() {
    let ca = Authority::ending("CA", at(NOW - 1));
    assert_eq!(
        outcome(&ca.issue(&["dns:a.example"]), &trust(&[&ca], &[])),
        Err(ClientCertificateError::Issuer)
    );
}

#[test]
fn names_have_one_form_and_the_subject_is_none() {
    let ca = Authority::new("CA");
    let names = ["dns:Shop.Example", "uri:spiffe://Shop/Orders", "email:Ada@Shop.Example"];
    let certificate = shown(&ca.issue(&names), &trust(&[&ca], &[]));
    let expected = ["dns:shop.example", "uri:spiffe://Shop/Orders", "email:Ada@shop.example"];
    assert_eq!(certificate.names(), expected);
    assert!(shown(&ca.issue(&[]), &trust(&[&ca], &[])).names().is_empty());
    let shown = format!("{certificate:?}");
    assert!(!shown.contains("hop") && shown.len() < 40, "{shown}");
}

#[test]
fn what_cannot_be_used_is_refused() {
    let ca = Authority::new("CA");
    let (leaf, list) = (ca.issue(&["dns:a.example"]), ca.revoke(&[], at(NOW)));
    for (bundle, lists, word) in [
        (String::new(), None, "no certificate"),
        ("x".to_owned(), None, "no certificate"),
        (leaf.key.clone(), None, "no certificate"),
        // Whoever holds its key could let itself in.
        (format!("{}{}", ca.pem(), leaf.chain), None, "certificate 2"),
        (ca.pem(), Some(String::new()), "no certificate revocation list"),
        (ca.pem(), Some(ca.pem()), "no certificate revocation list"),
        (ca.pem(), Some("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".to_owned()), "CRL file"),
    ] {
        let error = ClientTrust::parse(bundle.as_bytes(), lists.as_ref().map(String::as_bytes));
        let error = error.map(|_| ()).expect_err("refused").to_string();
        assert!(error.contains(word), "{error}");
    }
    let good =
        ClientTrust::parse(format!("{0}{0}", ca.pem()).as_bytes(), Some(list.as_bytes())).expect("good");
    assert_eq!((good.authorities(), good.lists_end()), (1, Some(at(NOW).as_second())));
}
