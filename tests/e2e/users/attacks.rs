use mayfly_proto::node::BeginTaskRequest;
use mayfly_sdk::{Clock, KeyAlgorithm};
use serde_json::{Value, json};

use super::{AUDIENCE, alone, become_users, begin, rig, spiffe_id, subject, token};
use crate::agentless::provider::{IdentityProvider, encode};
use crate::task_rules::{FILES, Node, on_runtime, reading, wish};

#[test]
fn a_user_whose_name_reads_like_a_spiffe_id_stays_a_user_and_two_alices_are_two_people() {
    let (corp, partner) = (IdentityProvider::new("corp"), IdentityProvider::new("partner"));
    let rig = alone(&[("corp", &corp), ("partner", &partner)]);
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let (planner, partnered) = (node.holder("planner", 1).await, node.holder("partnered", 2).await);
        let id = spiffe_id(&rig, "files");
        let posing = begin(&mut node, &planner, &token(&corp, &id, &json!({}))).await.unwrap();
        assert_eq!(subject(&posing), "user:corp:spiffe%3A%2F%2Ftest.example%2Ffiles");
        let claims = node.check(&posing).await.unwrap();
        assert_eq!(claims["sub"], "user:corp:spiffe%3A%2F%2Ftest.example%2Ffiles");
        assert_eq!(claims["act"]["sub"], spiffe_id(&rig, "planner"), "{claims}");
        // A user who is called as a user of somebody else is.
        let nested = begin(&mut node, &planner, &token(&corp, "user:partner:alice", &json!({}))).await.unwrap();
        assert_eq!(subject(&nested), "user:corp:user%3Apartner%3Aalice");

        let one = begin(&mut node, &planner, &token(&corp, "alice", &json!({}))).await.unwrap();
        let two = begin(&mut node, &partnered, &token(&partner, "alice", &json!({}))).await.unwrap();
        assert_eq!((subject(&one), subject(&two)), ("user:corp:alice", "user:partner:alice"));
    });
}

#[test]
fn a_users_token_is_taken_only_from_an_agent_that_it_or_the_entry_names() {
    let (corp, partner) = (IdentityProvider::new("corp"), IdentityProvider::new("partner"));
    let rig = alone(&[("corp", &corp), ("partner", &partner)]);
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let mut holders = Vec::new();
        for (name, instance) in [("planner", 1), ("partnered", 2), ("lone", 3), ("plain", 4)] {
            holders.push(node.holder(name, instance).await);
        }
        let [planner, partnered, lone, plain] = &holders[..] else { panic!("four") };
        let (own, other) = (spiffe_id(&rig, "planner"), spiffe_id(&rig, "reader"));
        let ok = "ok".to_owned();
        let not = "user_token_not_for_agent".to_owned();
        for (changes, outcome) in [
            // The entry names the client; the token names the agent, in each way that there is.
            (json!({}), &ok),
            (json!({"azp": null, "client_id": "portal"}), &ok),
            (json!({"azp": own}), &ok),
            (json!({"azp": null, "client_id": own}), &ok),
            (json!({"azp": null, "may_act": {"sub": own}}), &ok),
            (json!({"azp": "elsewhere", "may_act": {"sub": [other, own]}}), &ok),
            (json!({"azp": "elsewhere", "act": {"sub": own}}), &ok),
            // It names somebody else, or nobody.
            (json!({"azp": "elsewhere"}), &not),
            (json!({"azp": null}), &not),
            (json!({"azp": other}), &not),
            (json!({"azp": "*"}), &not),
            (json!({"azp": null, "client_id": "elsewhere"}), &not),
            // Who acts already, or may alone, stays so whatever the entry says of the client.
            (json!({"act": {"sub": other}}), &not),
            (json!({"azp": own, "act": {"sub": other}}), &not),
            (json!({"act": {"sub": own}, "may_act": {"sub": other}}), &not),
            (json!({"may_act": {"sub": other}}), &not),
            (json!({"azp": own, "may_act": {"sub": [other]}}), &not),
            (json!({"may_act": {"sub": []}}), &not),
            // It is bound to a key that is not this agent's.
            (json!({"cnf": {"jkt": "0".repeat(43)}}), &not),
            (json!({"cnf": {"x5t#S256": encode(&[7; 32])}}), &not),
            (json!({"cnf": "none"}), &not),
        ] {
            let outcome_now = begin(&mut node, planner, &token(&corp, "alice", &changes)).await;
            assert_eq!(&outcome_now.map_or_else(|reason| reason, |_task| ok.clone()), outcome, "{changes}");
        }
        let thumbprint = ring::digest::digest(&ring::digest::SHA256, &planner.svid[0]);
        let bound = token(&corp, "alice", &json!({"cnf": {"x5t#S256": encode(thumbprint.as_ref())}}));
        begin(&mut node, planner, &bound).await.unwrap();

        // Deny by default: an entry that names no provider, or another one, or no client.
        let alices = token(&corp, "alice", &json!({}));
        assert_eq!(begin(&mut node, lone, &alices).await.unwrap_err(), "on_behalf_not_allowed");
        assert_eq!(begin(&mut node, plain, &alices).await.unwrap_err(), "task_not_allowed");
        assert_eq!(begin(&mut node, partnered, &alices).await.unwrap_err(), "user_token_not_for_agent");
        let partners = token(&partner, "alice", &json!({}));
        assert_eq!(begin(&mut node, planner, &partners).await.unwrap_err(), "on_behalf_not_allowed");
        begin(&mut node, partnered, &token(&partner, "alice", &json!({"azp": null}))).await.unwrap();

        // Nor does a user's task come to an agent by delegation whose entry is for no users.
        let begun = begin(&mut node, planner, &alices).await.unwrap();
        assert_eq!(node.delegate(&begun, lone, reading()).await.unwrap_err(), "on_behalf_not_allowed");
        let both = BeginTaskRequest {
            parent_token: begun.token.clone(),
            subject_token: alices,
            ..wish(partnered, &reading())
        };
        assert_eq!(node.rogue.begin(both).await.unwrap_err(), "invalid_argument");
    });
}

#[test]
fn what_is_no_users_token_begins_nothing() {
    let (corp, partner) = (IdentityProvider::new("corp"), IdentityProvider::new("partner"));
    let rig = alone(&[("corp", &corp), ("partner", &partner)]);
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let planner = node.holder("planner", 1).await;
        let now = Clock::system().now().unix_s();
        let own = spiffe_id(&rig, "planner");
        let event = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
        for (changes, reason) in [
            // Other audiences, times, names.
            (json!({"aud": "https://other.example"}), "wrong_audience"),
            (json!({"aud": "test.example"}), "wrong_audience"),
            (json!({"aud": ["https://other.example"]}), "wrong_audience"),
            (json!({"aud": format!("{AUDIENCE}/")}), "wrong_audience"),
            (json!({"aud": null}), "wrong_audience"),
            (json!({"exp": now - 31}), "expired"),
            // However long it lives, it is not remembered for ever who has logged out.
            (json!({"iat": now - 86_500, "exp": now + 600}), "expired"),
            (json!({"exp": null}), "token_invalid"),
            (json!({"exp": now + 7200}), "token_invalid"),
            (json!({"nbf": now + 600}), "not_yet_valid"),
            (json!({"iat": now + 600}), "not_yet_valid"),
            (json!({"iat": null}), "token_invalid"),
            (json!({"sub": null}), "token_invalid"),
            (json!({"sub": ""}), "token_invalid"),
            (json!({"sub": "x".repeat(256)}), "token_invalid"),
            (json!({"iss": "https://unknown.example"}), "identity_provider_unknown"),
            // One provider's token under another's name.
            (json!({"iss": partner.issuer}), "token_untrusted"),
            // Two clients; a client's own token, behind which nobody stands.
            (json!({"client_id": "elsewhere"}), "token_invalid"),
            (json!({"sub": "portal"}), "token_invalid"),
            (json!({"sub": own, "azp": own}), "token_invalid"),
            // A logout token; a task's token by its claims; a chain of actors that would be lost.
            (json!({"events": event}), "token_invalid"),
            (json!({"mayfly_task": {"id": "0"}}), "token_invalid"),
            (json!({"act": {"sub": own, "act": {"sub": "https://somebody.example"}}}), "token_invalid"),
            (json!({"act": {"sub": own, "iss": "https://somebody.example"}}), "token_invalid"),
            (json!({"act": own}), "token_invalid"),
            (json!({"may_act": own}), "token_invalid"),
            (json!({"may_act": {"sub": own, "iss": "https://somebody.example"}}), "token_invalid"),
        ] {
            let token = token(&corp, "alice", &changes);
            assert_eq!(begin(&mut node, &planner, &token).await.unwrap_err(), reason, "{changes}");
        }
    });
}

#[test]
fn nothing_but_the_providers_signature_under_the_right_type_makes_a_users_token() {
    let corp = IdentityProvider::new("corp");
    let rig = rig(&[("corp", &corp)], &[]);
    on_runtime(async {
        let mut node = Node::of(&rig, "a").await;
        let planner = node.holder("planner", 1).await;
        let own = spiffe_id(&rig, "planner");
        // No signature, the public key as a secret, another's key, another type.
        let good = token(&corp, "alice", &json!({}));
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let payload = signed.split_once('.').unwrap().1;
        for alg in ["none", "None", ""] {
            let header = encode(json!({"alg": alg, "kid": corp.key_id}).to_string().as_bytes());
            for signature in ["", signature] {
                let token = format!("{header}.{payload}.{signature}");
                assert_eq!(begin(&mut node, &planner, &token).await.unwrap_err(), "token_invalid", "{alg:?}");
            }
        }
        let jwk = Value::Object(corp.jwk()).to_string();
        for secret in [corp.key.public_key().spki(), jwk.as_bytes()] {
            let input = format!("{}.{payload}", encode(json!({"alg": "HS256", "kid": "key-1"}).to_string().as_bytes()));
            let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret), input.as_bytes());
            let token = format!("{input}.{}", encode(tag.as_ref()));
            assert_eq!(begin(&mut node, &planner, &token).await.unwrap_err(), "token_invalid");
        }
        let stranger = IdentityProvider::with_key("corp", "key-1", KeyAlgorithm::EcP256);
        let theirs = token(&stranger, "alice", &json!({}));
        assert_eq!(begin(&mut node, &planner, &theirs).await.unwrap_err(), "token_untrusted");
        let typed = |typ: &str| {
            let mut claims = corp.claims();
            become_users(&mut claims, "alice", &json!({}));
            let mut header = corp.header();
            header["typ"] = typ.into();
            corp.sign(&header, &Value::Object(claims).to_string())
        };
        for typ in ["logout+jwt", "dpop+jwt", "txntoken+jwt", "wit+jwt", "JOSE"] {
            assert_eq!(begin(&mut node, &planner, &typed(typ)).await.unwrap_err(), "token_invalid", "{typ}");
        }
        for typ in ["JWT", "at+jwt", "application/at+jwt"] {
            begin(&mut node, &planner, &typed(typ)).await.unwrap();
        }
        for bytes in [16 * 1024 + 1, 1 << 20] {
            assert_eq!(begin(&mut node, &planner, &"x".repeat(bytes)).await.unwrap_err(), "token_invalid");
        }

        // Tokens of our own: of a task, whether of a user's or of an agent's, and JWT-SVIDs for this very audience.
        let of_user = begin(&mut node, &planner, &good).await.unwrap();
        let of_agent = node.begin(&planner, reading()).await.unwrap();
        for task in [of_user, of_agent] {
            assert_eq!(begin(&mut node, &planner, &task.token).await.unwrap_err(), "identity_provider_unknown");
        }
        let fetched = std::process::Command::new(mayfly_rig::mayfly())
            .args(["svid", "jwt", "fetch", "--audience", AUDIENCE, "--spiffe-id", &own])
            .env("SPIFFE_ENDPOINT_SOCKET", rig.endpoint("a"))
            .output()
            .unwrap();
        let svid = String::from_utf8(fetched.stdout).unwrap();
        assert!(svid.trim().split('.').count() == 3, "{}", String::from_utf8_lossy(&fetched.stderr));
        let reason = begin(&mut node, &planner, svid.trim()).await.unwrap_err();
        assert!(["identity_provider_unknown", "token_invalid"].contains(&reason.as_str()), "{reason}");
        assert!(node.begin(&planner, json!({"audience": FILES})).await.is_ok(), "tasks of its own are begun as ever");
    });
}
