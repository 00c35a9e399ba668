//! An agent that has its work done by two sub-agents, each a process with a narrower task of its own. Its entry has a `task`
//! part with `delegable`. `agent_loop URL SERVICE-ID`
#![allow(clippy::print_stdout, reason = "an example")]

use std::error::Error;
use std::io::Read as _;
use std::process::Stdio;

use mayfly_sdk::client::{Endpoint, ParentToken, Task, TaskHttp, TaskRequest};
use mayfly_sdk::tls::Authorizer;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

const AUDIENCE: &str = "https://files.example.org/";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [url, service] => lead(url, service).await,
        [url, service, page] => follow(url, service, page).await,
        _ => Err("usage: agent_loop URL SERVICE-ID".into()),
    }
}

async fn lead(url: &str, service: &str) -> Result<(), Box<dyn Error>> {
    let request = TaskRequest::new("read both pages", AUDIENCE).scope(["read", "write"]).delegable([AUDIENCE]);
    let task = Task::begin(&Endpoint::from_env()?, request).await?;
    println!("task {}", task.id());
    let mut helpers = Vec::new();
    for page in ["1", "2"] {
        let mut helper = Command::new(std::env::current_exe()?);
        let mut helper = helper.args([url, service, page]).stdin(Stdio::piped()).kill_on_drop(true).spawn()?;
        // The token of our task, over a pipe that nobody else reads: what to take over a part with, and nothing more.
        let mut pipe = helper.stdin.take().ok_or("no pipe")?;
        pipe.write_all(task.delegate()?.expose().as_bytes()).await?;
        helpers.push(helper);
    }
    for mut helper in helpers {
        helper.wait().await?.success().then_some(()).ok_or("a helper failed")?;
    }
    // Their parts ended with them; whatever had not would end now.
    println!("ended {}", task.complete().await?);
    Ok(())
}

async fn follow(url: &str, service: &str, page: &str) -> Result<(), Box<dyn Error>> {
    let mut token = String::new();
    std::io::stdin().read_to_string(&mut token)?;
    let request =
        TaskRequest::new(format!("read page {page}"), AUDIENCE).scope(["read"]).below(ParentToken::new(token));
    let task = Task::begin(&Endpoint::from_env()?, request).await?;
    let http = TaskHttp::new(task.passes(), Authorizer::exact(service.parse()?))?;
    println!("{}", http.send(http.get(format!("{url}/pages/{page}"))).await?.error_for_status()?.text().await?);
    task.complete().await?;
    Ok(())
}
