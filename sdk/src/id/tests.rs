use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<SpiffeId, IdError> {
    text.parse()
}

/// Rows: ID-1, ID-2, ID-3, ID-4, ID-6, ID-7, ID-13, ID-14, ID-15, ID-16, ID-19.
#[test]
fn ids_are_refused_for_the_reason_that_helps() {
    assert!(parse("spiffe://td/a").is_ok());
    for (text, error) in [
        // rows: ID-1
        ("http://td/a", IdError::WrongScheme),
        ("spiffe:/td/a", IdError::WrongScheme),
        ("spiffe:td/a", IdError::WrongScheme),
        ("", IdError::WrongScheme),
        (" spiffe://td/a", IdError::WrongScheme),
        // rows: ID-2
        ("spiffe://", IdError::MissingTrustDomain),
        ("spiffe:///a", IdError::MissingTrustDomain),
        // rows: ID-3
        ("spiffe://td/a?", IdError::BadPathSegmentChar),
        ("spiffe://td/a#", IdError::BadPathSegmentChar),
        ("spiffe://td/a?x=1", IdError::BadPathSegmentChar),
        ("spiffe://td?", IdError::BadTrustDomainChar),
        ("spiffe://td#", IdError::BadTrustDomainChar),
        // rows: ID-4
        ("spiffe://u@td/a", IdError::BadTrustDomainChar),
        ("spiffe://@td/a", IdError::BadTrustDomainChar),
        ("spiffe://td:443/a", IdError::BadTrustDomainChar),
        ("spiffe://td:/a", IdError::BadTrustDomainChar),
        // rows: ID-6
        ("SPIFFE://td/a", IdError::WrongScheme),
        ("spiffe://TD/a", IdError::BadTrustDomainChar),
        // rows: ID-7
        ("spiffe://%74d/a", IdError::BadTrustDomainChar),
        ("spiffe://[::1]/a", IdError::BadTrustDomainChar),
        ("spiffe://t$d/a", IdError::BadTrustDomainChar),
        // rows: ID-13
        ("spiffe://td/a%41", IdError::BadPathSegmentChar),
        ("spiffe://td/a!b", IdError::BadPathSegmentChar),
        ("spiffe://td/a~b", IdError::BadPathSegmentChar),
        ("spiffe://td/a b", IdError::BadPathSegmentChar),
        ("spiffe://td/ä", IdError::BadPathSegmentChar),
        // rows: ID-14
        ("spiffe://td/a//b", IdError::EmptySegment),
        ("spiffe://td//a", IdError::EmptySegment),
        // rows: ID-15
        ("spiffe://td/.", IdError::DotSegment),
        ("spiffe://td/..", IdError::DotSegment),
        ("spiffe://td/a/./b", IdError::DotSegment),
        ("spiffe://td/a/..", IdError::DotSegment),
        // rows: ID-16
        ("spiffe://td/", IdError::TrailingSlash),
        ("spiffe://td/a/", IdError::TrailingSlash),
        // rows: ID-19
        ("spiffe://td/a\n", IdError::BadPathSegmentChar),
        ("spiffe://td/a\r", IdError::BadPathSegmentChar),
        ("spiffe://td/a\t", IdError::BadPathSegmentChar),
        ("spiffe://td/a\0", IdError::BadPathSegmentChar),
        ("spiffe://td/a ", IdError::BadPathSegmentChar),
        ("spiffe://td\n", IdError::BadTrustDomainChar),
        ("spiffe://tdé", IdError::BadTrustDomainChar),
    ] {
        assert_eq!(parse(text), Err(error), "{text:?}");
    }
}

/// Rows: ID-15.
#[test]
fn dots_that_are_not_dot_segments_are_legal() {
    // rows: ID-15
    for text in ["spiffe://td/...", "spiffe://td/.a", "spiffe://td/..a", "spiffe://td/a-b_c.D9"] {
        assert_eq!(parse(text).unwrap().as_str(), text);
    }
}

/// Rows: ID-7, ID-13, ID-19.
#[test]
fn every_other_character_is_refused_and_every_legal_one_taken() {
    // rows: ID-7, ID-13, ID-19
    for c in (0..=0xff_u8).map(char::from) {
        let lower = c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
        assert_eq!(parse(&format!("spiffe://t{c}d/a")).is_ok(), lower || c == '/', "{c:?} in a trust domain");
        assert_eq!(TrustDomain::from_name(&format!("t{c}d")).is_ok(), lower, "{c:?} in a name");
        let segment = lower || c.is_ascii_uppercase() || c == '/';
        assert_eq!(parse(&format!("spiffe://td/a{c}b")).is_ok(), segment, "{c:?} in a path");
        assert_eq!(is_legal_segment(&format!("a{c}b")), segment && c != '/', "{c:?} in a segment");
    }
}

/// Rows: ID-8.
#[test]
fn trust_domains_are_not_read_as_hosts() {
    // rows: ID-8
    for name in ["1.2.3.4", "999.1.1.1", "a..b", "-a-", "_", "."] {
        assert_eq!(name.parse::<TrustDomain>().unwrap().as_str(), name);
        assert_eq!(parse(&format!("spiffe://{name}/a")).unwrap().trust_domain().as_str(), name);
    }
}

/// Rows: ID-9, ID-10, ID-12.
#[test]
fn lengths_are_bounded_at_255_and_2048() {
    // rows: ID-9
    assert!("a".repeat(255).parse::<TrustDomain>().is_ok());
    assert_eq!("a".repeat(256).parse::<TrustDomain>(), Err(IdError::TrustDomainTooLong));
    // rows: ID-10, ID-12
    let longest = format!("spiffe://td/{}", "a".repeat(2048 - 12));
    assert_eq!(longest.len(), 2048);
    assert_eq!(parse(&longest).unwrap().as_str(), longest);
    assert_eq!(parse(&format!("{longest}a")), Err(IdError::TooLong));
    let td: TrustDomain = "td".parse().unwrap();
    assert!(SpiffeId::from_path(&td, &format!("/{}", "a".repeat(2048 - 12))).is_ok());
    assert_eq!(SpiffeId::from_path(&td, &format!("/{}", "a".repeat(2048 - 11))), Err(IdError::TooLong));
}

/// Rows: ID-17.
#[test]
fn paths_are_case_sensitive() {
    // rows: ID-17
    let (lower, upper) = (parse("spiffe://td/a").unwrap(), parse("spiffe://td/A").unwrap());
    assert_ne!(lower, upper);
    assert_eq!(std::collections::HashSet::from([lower, upper]).len(), 2);
}

/// Rows: ID-20.
#[test]
fn a_trust_domain_is_read_from_its_name_or_from_any_of_its_ids() {
    // rows: ID-20
    for text in ["example.org", "spiffe://example.org", "spiffe://example.org/x"] {
        let td: TrustDomain = text.parse().unwrap();
        assert_eq!((td.as_str(), td.id().as_str()), ("example.org", "spiffe://example.org"));
    }
    assert_eq!("example.org/x".parse::<TrustDomain>(), Err(IdError::BadTrustDomainChar));
    assert_eq!("".parse::<TrustDomain>(), Err(IdError::MissingTrustDomain));
    assert_eq!("Example.org".parse::<TrustDomain>(), Err(IdError::BadTrustDomainChar));
    assert_eq!(TrustDomain::from_name("spiffe://example.org"), Err(IdError::BadTrustDomainChar));
}

/// Rows: ID-6.
#[test]
fn normalizing_lowers_scheme_and_trust_domain_and_leaves_the_path() {
    // rows: ID-6
    let id = SpiffeId::parse_normalizing(" SPIFFE://TD/A \n").unwrap();
    assert_eq!(id.as_str(), "spiffe://td/A");
    assert_eq!(TrustDomain::parse_normalizing("Example.ORG").unwrap().as_str(), "example.org");
    assert_eq!(TrustDomain::parse_normalizing("Spiffe://Example.ORG/x").unwrap().as_str(), "example.org");
    assert_eq!(SpiffeId::parse_normalizing("spiffe://td/a%41"), Err(IdError::BadPathSegmentChar));
    assert_eq!(SpiffeId::parse_normalizing("spiffé://td"), Err(IdError::WrongScheme));
}

#[test]
fn what_begins_with_mayfly_is_reserved_and_what_looks_like_it_is_not() {
    for (text, reserved) in [
        ("spiffe://td/mayfly", true),
        ("spiffe://td/mayfly/issuer/a", true),
        ("spiffe://td/mayflys", false),
        ("spiffe://td/Mayfly/a", false),
        ("spiffe://td/a/mayfly", false),
        ("spiffe://td", false),
        ("spiffe://mayfly/a", false),
    ] {
        assert_eq!(parse(text).unwrap().is_reserved(), reserved, "{text}");
    }
}

#[test]
fn parts_of_an_id() {
    let id = parse("spiffe://td/a/b").unwrap();
    assert_eq!((id.path(), id.trust_domain().as_str()), ("/a/b", "td"));
    assert_eq!(id.segments().collect::<Vec<_>>(), ["a", "b"]);
    assert!(!id.is_root() && id.is_member_of(&"td".parse().unwrap()));
    let root = parse("spiffe://td").unwrap();
    assert!(root.is_root() && root.segments().next().is_none());
    assert_eq!(SpiffeId::from_path(id.trust_domain(), "/a/b"), Ok(id.clone()));
    assert_eq!(SpiffeId::from_path(id.trust_domain(), ""), Ok(root));
    assert_eq!(SpiffeId::from_path(id.trust_domain(), "a"), Err(IdError::NoLeadingSlash));
    assert_eq!(SpiffeId::from_path(id.trust_domain(), "/"), Err(IdError::TrailingSlash));
}

#[test]
fn a_trust_domain_that_is_wrong_is_told_from_an_id_that_is() {
    use crate::reason::Reason;
    for error in [IdError::MissingTrustDomain, IdError::BadTrustDomainChar, IdError::TrustDomainTooLong] {
        assert_eq!(error.reason(), Reason::InvalidTrustDomain);
    }
    assert_eq!(IdError::TooLong.reason(), Reason::InvalidSpiffeId);
}

#[test]
fn ids_have_the_order_of_their_texts() {
    let (a, b) = (parse("spiffe://td/a").unwrap(), parse("spiffe://td/b").unwrap());
    assert_eq!(a.partial_cmp(&b), Some(std::cmp::Ordering::Less));
    assert_eq!(b.cmp(&a), std::cmp::Ordering::Greater);
}

#[test]
fn serde_goes_through_the_parser() {
    assert_eq!(serde_json::to_string(&parse("spiffe://td/a").unwrap()).unwrap(), "\"spiffe://td/a\"");
    assert!(serde_json::from_str::<SpiffeId>("\"spiffe://td/a/\"").is_err());
    assert!(serde_json::from_str::<TrustDomain>("\"TD\"").is_err());
}

proptest! {
    /// Rows: ID-18.
    #[test]
    fn the_text_of_an_id_is_the_text_that_was_parsed(
        text in "spiffe://[a-z0-9._-]{1,20}(/[A-Za-z0-9._-]{1,10}){0,5}|spiffe://\\PC{0,20}|\\PC{0,30}",
    ) {
        if let Ok(id) = parse(&text) {
            prop_assert_eq!(id.as_str(), &text);
            prop_assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), &*text);
            prop_assert_eq!(SpiffeId::from_path(id.trust_domain(), id.path()), Ok(id.clone()));
            prop_assert!(id.segments().all(is_legal_segment));
        }
    }

    #[test]
    fn every_legal_path_makes_an_id(segments in prop::collection::vec("[A-Za-z0-9._-]{1,10}", 1..6)) {
        let legal = segments.iter().all(|segment| is_legal_segment(segment));
        let text = format!("spiffe://td/{}", segments.join("/"));
        prop_assert_eq!(parse(&text).is_ok(), legal);
    }
}
