//! The baseline: a relay that copies bytes in both directions without parsing them.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Args;
use tokio::net::{TcpListener, TcpStream};

use crate::failure::Result;

/// Where the relay listens and what it relays to.
#[derive(Args)]
pub(crate) struct Options {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    upstream: SocketAddr,
    /// Lifetime, in seconds.
    #[arg(long, default_value_t = 3600)]
    lifetime: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let lifetime = Duration::from_secs(options.lifetime);
        tokio::time::timeout(lifetime, accept(options)).await.unwrap_or(Ok(()))
    })
}

async fn accept(options: &Options) -> Result<()> {
    let listener = TcpListener::bind(options.listen).await?;
    let upstream = options.upstream;
    loop {
        let (client, _) = listener.accept().await?;
        // A connection that breaks is the load generator's to report.
        tokio::spawn(async move { drop(relay(client, upstream).await) });
    }
}

async fn relay(mut client: TcpStream, upstream: SocketAddr) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut server).await?;
    Ok(())
}
