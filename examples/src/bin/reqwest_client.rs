//! An agent that reads one page over HTTP, for one task. Its entry has a `task` part. `reqwest_client URL SERVICE-ID`
#![allow(clippy::print_stdout, reason = "an example")]

use std::error::Error;

use mayfly_sdk::client::{Endpoint, Task, TaskHttp, TaskRequest};
use mayfly_sdk::tls::Authorizer;

const AUDIENCE: &str = "https://files.example.org/";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(url), Some(service)) = (args.next(), args.next()) else {
        return Err("usage: reqwest_client URL SERVICE-ID".into());
    };
    let request = TaskRequest::new("read the first page", AUDIENCE).scope(["read"]);
    let task = Task::begin(&Endpoint::from_env()?, request).await?;

    // Presents the token of the moment over connections with the SVID that it is bound to, whatever is renewed meanwhile.
    let http = TaskHttp::new(task.passes(), Authorizer::exact(service.parse()?))?;
    let page = http.send(http.get(format!("{url}/pages/1"))).await?;
    println!("{} {}", page.status(), page.text().await?);
    let removed = http.send(http.request(reqwest::Method::DELETE, format!("{url}/pages/1"))).await?;
    println!("{} {:?}", removed.status(), removed.headers().get("www-authenticate"));

    task.complete().await?;
    let late = http.send(http.get(format!("{url}/pages/1"))).await;
    println!("after the task: {}", late.err().ok_or("a token outlived its task")?);
    Ok(())
}
