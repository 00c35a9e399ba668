use super::*;
use crate::workload::running::Running;

fn child() -> (Running, Arc<HeldProcess>) {
    let child = Running::sleep("sleep");
    let process = child.held();
    (child, process)
}

fn instances() -> Arc<Instances> {
    Arc::new(Instances::new(BootId::current().unwrap()).unwrap())
}

#[tokio::test]
async fn a_process_keeps_its_id_and_shares_it_with_none() {
    let instances = instances();
    let ((one, first), (other, second)) = (child(), child());
    let id = instances.id_of(&first).unwrap();
    assert_eq!(instances.id_of(&one.held()).unwrap(), id, "over another connection");
    assert_ne!(instances.id_of(&second).unwrap(), id);
    drop(one);
    drop(other);
}

#[tokio::test]
async fn deaths_are_reported_and_forgotten() {
    let instances = instances();
    let stop = CancellationToken::new();
    let mut deaths = instances.deaths();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn({
        let (instances, stop) = (Arc::clone(&instances), stop.clone());
        async move { instances.run(stop).await }
    });
    let many: Vec<_> = (0..100).map(|_| child()).collect();
    let ids: std::collections::HashSet<_> = many.iter().map(|(_, process)| instances.id_of(process).unwrap()).collect();
    assert_eq!(ids.len(), 100);
    let (survivor, alive) = child();
    let survivor_id = instances.id_of(&alive).unwrap();
    for (child, _) in many {
        drop(child);
    }
    let mut dead = std::collections::HashSet::new();
    while dead.len() < 100 {
        let id = tokio::time::timeout(std::time::Duration::from_secs(10), deaths.recv())
            .await
            .expect("a death is not reported");
        assert!(dead.insert(id.unwrap()));
    }
    assert_eq!(dead, ids);
    assert_eq!(instances.snapshot().into_iter().map(|(_, id)| id).collect::<Vec<_>>(), [survivor_id]);
    stop.cancel();
    tasks.join_all().await;
    drop(survivor);
}

#[tokio::test]
async fn the_dead_get_no_id() {
    let (child, process) = child();
    drop(child);
    assert!(matches!(instances().id_of(&process), Err(InstanceError::Dead)));
}

#[tokio::test]
async fn ids_outlive_a_restart_for_processes_that_do() {
    let before = instances();
    let ((stays, staying), (leaves, leaving)) = (child(), child());
    let (kept, lost) = (before.id_of(&staying).unwrap(), before.id_of(&leaving).unwrap());
    let mut snapshot = before.snapshot();
    drop(leaves);
    let after = instances();
    after.restore(snapshot.clone());
    assert_eq!(after.id_of(&staying).unwrap(), kept);
    assert!(after.snapshot().iter().all(|(_, id)| *id != lost));

    // After a boot the same pid and start time would be another process.
    for (key, _) in &mut snapshot {
        key.boot = BootId::from_bytes([0; 16]);
    }
    let later = instances();
    later.restore(snapshot);
    assert_ne!(later.id_of(&staying).unwrap(), kept);
    drop(stays);
}

#[tokio::test]
async fn whoever_has_the_process_id_of_a_kept_instance_now_is_not_taken_for_it() {
    let before = instances();
    let (lives, process) = child();
    let kept = before.id_of(&process).unwrap();
    let [(key, _)] = before.snapshot()[..] else { panic!("one process") };
    let taken_up = |key: InstanceKey| {
        let after = instances();
        after.restore([(key, kept)]);
        assert_eq!(after.lives(kept), after.snapshot() == [(InstanceKey { number: process.number(), ..key }, kept)]);
        after.lives(kept)
    };
    assert!(taken_up(key));
    assert!(!taken_up(InstanceKey { start_time: key.start_time + 1, ..key }));
    // Two processes of one id within one tick of the clock that counts start times.
    if let Some(number) = key.number {
        assert!(!taken_up(InstanceKey { number: Some(number + 1), ..key }));
    }
    assert!(taken_up(InstanceKey { number: None, ..key }), "kept by a build or on a kernel without numbers");
    drop(lives);
}
