use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use proptest::prelude::*;

use super::*;
use crate::keys::IssuedKey;
use crate::tests::Counter;
use crate::user_tokens::IssuedUserToken;

fn key(environment: &str) -> String {
    let environment = EnvironmentName::parse(environment).expect("a name");
    IssuedKey::generate(&environment, &Counter::default()).expect("random").plain.expose_secret().to_owned()
}

fn token() -> String {
    IssuedUserToken::generate(&Counter::default()).expect("random").expose_secret().to_owned()
}

/// Scans in pieces of a size.
fn scan(input: &[u8], size: usize) -> Vec<(Spot, Leak)> {
    let mut scanner = Scanner::new();
    let mut all: Vec<_> = input.chunks(size).flat_map(|piece| scanner.push(piece)).collect();
    all.extend(scanner.finish());
    all
}

fn encoded(plain: &str, how: u8) -> Vec<u8> {
    match how {
        0 => plain.as_bytes().to_vec(),
        1 => plain.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        2 => plain.encode_utf16().flat_map(u16::to_be_bytes).collect(),
        3 => STANDARD.encode(plain).into_bytes(),
        4 => STANDARD.encode(format!("x{plain}\n")).into_bytes(),
        5 => URL_SAFE_NO_PAD.encode(format!("=?{plain}>>")).into_bytes(),
        _ => {
            // As `base64` wraps it, indented as in a block of YAML.
            let text = STANDARD.encode(format!("APP_KEY={plain}\nOTHER=1\n"));
            text.as_bytes().chunks(20).collect::<Vec<_>>().join(&b"\n    "[..])
        }
    }
}

#[test]
fn a_key_is_found_with_its_place_and_shown_masked() {
    let (prod, user) = (key("prod"), token());
    let text = format!("# schlüssel\nüüü apikey: \"{prod}\"\n\\n{user}x\n");
    let all = scan(text.as_bytes(), text.len());
    let [(at, api), (then, of_user)] = &all[..] else { panic!("{all:?}") };
    assert_eq!((at.line, at.column), (2, 14));
    assert_eq!(at.offset as usize, text.find(&prod).expect("there"));
    assert_eq!((then.line, then.column), (3, 3));
    assert_eq!(api.kind, LeakKind::ApiKey { environment: EnvironmentName::prod() });
    assert_eq!(api.mask, format!("tg_prod_…{}", &prod[prod.len() - 4..]));
    assert_eq!(api.digest, KeyDigest::of(prod.as_bytes()));
    assert_eq!(of_user.kind, LeakKind::UserToken);
    assert_eq!(of_user.mask, format!("tgu_…{}", &user[user.len() - 4..]));
    let shown = format!("{all:?}");
    assert!(!shown.contains(&prod) && !shown.contains(&user), "{shown}");
}

#[test]
fn what_only_looks_like_a_key_is_not_found() {
    let (prod, user) = (key("prod"), token());
    let long = "e".repeat(64);
    for text in [
        prod.replacen("prod", "test", 1),
        prod.replacen("prod", "Prod", 1),
        prod.replacen("prod", "", 1),
        prod.replacen("prod", "-prod", 1),
        prod.replacen("prod", &long, 1),
        prod[..prod.len() - 1].to_owned(),
        format!("{}0", &prod[..prod.len() - 1]),
        prod.replacen("tg_", "tg-", 1),
        format!("{}\n{}", &prod[..20], &prod[20..]),
        user.replacen("tgu_", "tg_", 1),
        user[..user.len() - 1].to_owned(),
        "tg_prod_0000000000000000000000000000000000000000".to_owned(),
        "tg_".repeat(100),
    ] {
        assert_eq!(scan(text.as_bytes(), text.len()), [], "{text}");
    }
}

#[test]
fn keys_side_by_side_and_in_each_other_are_all_found() {
    let (long, prod) = (key(&"e".repeat(63)), key("prod"));
    let text = format!("{prod}{prod}tg_{long}tg_prod_{prod}");
    let masks: Vec<_> = scan(text.as_bytes(), text.len()).into_iter().map(|it| it.1.mask).collect();
    assert_eq!(masks.len(), 4, "{masks:?}");
}

#[test]
fn texts_are_shown_without_the_keys_in_them() {
    let (prod, user) = (key("prod"), token());
    let hidden = redact(&format!("ü/{prod}/{user}.txt"));
    let ends = (&prod[prod.len() - 4..], &user[user.len() - 4..]);
    assert_eq!(hidden, format!("ü/tg_prod_…{}/tgu_…{}.txt", ends.0, ends.1));
    let based = STANDARD.encode(format!("ab{prod}"));
    assert_eq!(redact(&format!("ü {based} ü")), format!("ü tg_prod_…{} ü", ends.0));
    assert_eq!(redact("nothing"), "nothing");
}

#[test]
fn only_what_holds_zeros_near_its_beginning_is_binary() {
    let binary = |input: &[u8], size: usize| {
        let mut scanner = Scanner::new();
        input.chunks(size).for_each(|piece| drop(scanner.push(piece)));
        scanner.is_binary()
    };
    let late = [vec![b'x'; 8000], vec![0]].concat();
    for size in [1, 7, 9000] {
        assert!(!binary(&late, size) && binary(&late[1..], size) && !binary(b"text", size));
    }
}

proptest! {
    #[test]
    fn a_key_is_found_once_wherever_and_however_it_stands(
        before in proptest::collection::vec(any::<u8>(), 0..1200),
        after in proptest::collection::vec(any::<u8>(), 0..1200),
        environment in "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?",
        user in any::<bool>(),
        how in 0..7_u8,
        size in 1..1500_usize,
    ) {
        let plain = if user { token() } else { key(&environment) };
        // Letters before base64 would belong to it.
        let text = [&before[..], b"\"", &encoded(&plain, how), b"\"", &after].concat();
        let found = scan(&text, size);
        prop_assert_eq!(found.len(), 1, "{:?}", found);
        let (at, leak) = &found[0];
        prop_assert_eq!(leak.digest, KeyDigest::of(plain.as_bytes()));
        let lines = text[..at.offset as usize].iter().filter(|byte| **byte == b'\n').count() as u64;
        prop_assert_eq!(at.line, lines + 1);
        prop_assert!(at.offset >= before.len() as u64 && at.offset <= before.len() as u64 + 20);
    }

    #[test]
    fn scanning_never_panics_and_pieces_make_no_difference(
        input in proptest::collection::vec(prop_oneof![
            any::<u8>(),
            proptest::sample::select(b"tgu_\0dGf1XRnV0Z3".to_vec()),
        ], 0..2000),
        size in 1..700_usize,
    ) {
        prop_assert_eq!(scan(&input, size), scan(&input, input.len().max(1)));
        let _ = redact(&String::from_utf8_lossy(&input));
    }
}
