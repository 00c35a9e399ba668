//! The image that deploy/container/Containerfile describes, made by hand from its last two stages: nothing can be pulled here, so the base images, their
//! packages and the build in the first stage are not tried. What is: that the commands as they stand give a root that holds the program and what it needs and
//! no shell, and that an issuer runs in it as the user, with the environment and on the volume that the file says, and is healthy by the check that it says.

use std::fs;

use mayfly_rig::{mayfly, repository};

use crate::machine::{self, Machine};

/// The lines of one kind in the file, continued ones joined.
fn instructions(kind: &str) -> Vec<String> {
    let file = fs::read_to_string(repository().join("deploy/container/Containerfile")).unwrap().replace("\\\n", " ");
    file.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' ')).map(str::to_owned).collect()
}

/// The words of a list as JSON.
fn words(list: &str) -> String {
    serde_json::from_str::<Vec<String>>(list).unwrap_or_else(|error| panic!("{list}: {error}")).join(" ")
}

#[test]
fn an_issuer_runs_in_the_image_without_a_shell_without_root_and_on_its_volume_alone() {
    if !machine::to_be_had("the container file") {
        return;
    }
    let machine = Machine::boot("builder");
    let said = |commands: &str| {
        let output = machine.at_root(commands);
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{commands}: {text}");
        text
    };
    let stripped = machine.directory().join("stripped");
    let strip = std::process::Command::new("strip").arg("-o").arg(&stripped).arg(mayfly()).status().unwrap();
    assert!(strip.success());
    said("install -m 0755 stripped /usr/local/bin/mayfly");

    let gathers = instructions("RUN").pop().expect("what gathers the image");
    said(&gathers);
    let files = said("cd /image && find . -not -type d");
    let expected = |file: &str| {
        file.contains("/lib")
            || ["./usr/local/bin/mayfly", "./etc/ssl/certs/ca-certificates.crt", "./etc/passwd", "./etc/group"]
                .contains(&file)
    };
    let others: Vec<_> = files.lines().filter(|file| !expected(file)).collect();
    assert!(others.is_empty(), "in the image: {others:?}");
    assert!(files.lines().all(|file| !file.contains("/bin/") || file.ends_with("/mayfly")), "{files}");

    // As `docker run --read-only --tmpfs /run/mayfly --cap-drop ALL --security-opt no-new-privileges` of the operators' document.
    let (user, volume) = (instructions("USER").concat(), words(&instructions("VOLUME").concat()));
    let environment = instructions("ENV").join(" ");
    let [run, check] = [
        words(&instructions("ENTRYPOINT").concat()) + " " + &words(&instructions("CMD").concat()),
        words(instructions("HEALTHCHECK").concat().split_once("CMD ").unwrap().1),
    ];
    said(&format!(
        "mkdir /image/proc /root/volume && cp -a /image{volume}/. /root/volume/ && chown --reference=/image{volume} /root/volume && chmod 0700 /root/volume
         mount --bind /image /image && mount -o remount,bind,ro /image && mount -t proc none /image/proc
         mount --bind /root/volume /image{volume} && mount -t tmpfs -o uid=65532,gid=65532,mode=0755 none /image/run/mayfly"
    ));
    let inside = format!("/usr/bin/setpriv --no-new-privs /usr/sbin/chroot --userspec={user} /image");
    let refused = machine.at_root(&format!("{inside} /usr/local/bin/mayfly issuer run"));
    assert!(!refused.status.success(), "without a trust domain");
    let environment = format!("{environment} MAYFLY_ISSUER__TRUST_DOMAIN=example.org");
    said(&format!("ip link set lo up; env -i {environment} {inside} {run} > log 2>&1 & echo $! > pid"));
    let healthy = said(&format!(
        "for i in $(seq 300); do env -i {environment} {inside} {check} 2> said && exit 0; sleep 0.2; done; cat log said; exit 1"
    ));
    assert!(healthy.contains("issuer of example.org: serving"), "{healthy}");
    let status = said("cat /proc/$(cat pid)/status");
    for line in ["Uid:\t65532\t65532\t65532\t65532", "CapEff:\t0000000000000000", "NoNewPrivs:\t1"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    let token = said(&format!("env -i {environment} {inside} /usr/local/bin/mayfly join-token create"));
    assert!(token.trim().len() > 100, "{token}");
    said("kill $(cat pid); while [ -e /proc/$(cat pid) ]; do sleep 0.1; done");
    let kept = said("cat log; ls -l /root/volume/issuer");
    assert!(kept.contains("-r--------") && kept.contains("wrapping.key"), "the state is on the volume: {kept}");
}
