//! What this machine costs: a signature, a sync of the disk; and what a process has used.

use std::{fs::File, io::Write as _, time::Instant};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair},
};
use nix::time::{ClockId, clock_gettime};

/// How many signatures are timed.
const SIGNATURES: u32 = 5_000;

/// CPU of one P-256 signature, microseconds.
pub(crate) fn signature_us() -> f64 {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let (random, message) = (SystemRandom::new(), [7_u8; 300]);
    let begun = own_cpu_us();
    for _ in 0..SIGNATURES {
        key.sign(&random, &message).unwrap();
    }
    (own_cpu_us() - begun) / f64::from(SIGNATURES)
}

fn own_cpu_us() -> f64 {
    let time = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    time.tv_sec() as f64 * 1e6 + time.tv_nsec() as f64 / 1e3
}

/// The median of 50 syncs of one written page, milliseconds.
pub(crate) fn fdatasync_ms() -> f64 {
    let path = std::env::temp_dir().join(format!("mayfly-load-{}", std::process::id()));
    let mut file = File::create(&path).unwrap();
    let mut times: Vec<f64> = (0..50)
        .map(|_| {
            file.write_all(&[1; 4096]).unwrap();
            let begun = Instant::now();
            file.sync_data().unwrap();
            begun.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    std::fs::remove_file(path).unwrap();
    percentile(&mut times, 0.5)
}

/// User and system time of a process, microseconds.
pub(crate) fn cpu_us(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let ticks: Vec<u64> = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap()).collect();
    let tick_us = 1e6 / nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).unwrap().unwrap() as f64;
    ticks.iter().sum::<u64>() as f64 * tick_us
}

/// Private anonymous memory of a process, KiB.
pub(crate) fn anonymous_kib(process: u32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// How often a process has called `read` and its like (those of sockets by `recv` are not counted), and how many bytes it
/// had written to disks.
pub(crate) fn file_io(process: u32) -> (u64, u64) {
    let io = std::fs::read_to_string(format!("/proc/{process}/io")).unwrap();
    let field =
        |name: &str| io.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().parse::<u64>().unwrap();
    (field("syscr:"), field("write_bytes:"))
}

/// The value below which this part of the values lies; sorts them.
pub(crate) fn percentile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into the values")]
    let index = ((values.len() - 1) as f64 * part).round() as usize;
    values[index]
}
