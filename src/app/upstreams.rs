//! The configured upstreams, with each worker's connections. A reload keeps the connections of
//! unchanged upstreams.

use std::sync::Arc;

use crate::caller::{AuthHeader, Credential, Secret};
use crate::config::Config;
use crate::config::proxy;
use crate::config::upstreams::{Member, ModelName};
use crate::pool::{Names, Owners};
use crate::proxy::{PoolMember, Upstreams};
use crate::upstream::upgrade::Tunnels;
use crate::upstream::{self, Connector, Target, Upstream};

use super::Error;

/// The connectors to the upstreams, for the life of the process.
pub(super) struct Ways {
    /// Through the proxy, if there is one.
    pub(super) connector: Connector,
    /// Without the proxy.
    pub(super) direct: Connector,
    pub(super) settings: upstream::Settings,
    pub(super) counters: Arc<upstream::Counters>,
    pub(super) tunnels: Arc<Tunnels>,
    pub(super) workers: usize,
    /// The numbers of upstreams, by name.
    pub(super) names: Arc<Names>,
    pub(super) owners: Arc<Owners>,
}

impl Ways {
    /// The upstreams of a configuration. Connections of unchanged ones are taken from `before`.
    ///
    /// # Errors
    /// The setting that can't be used.
    pub(super) fn to(&self, config: &Config, before: Option<&Upstreams>) -> Result<Upstreams, Error> {
        let mut ways = Vec::new();
        for member in config.members() {
            let place = place(config, &member);
            let (id, url) = (self.names.id(&member.name), member.url.to_string());
            let target =
                Target::parse(&url).map_err(|error| Error::Configuration(format!("{place}.url: {error}")))?;
            let known = before.and_then(|before| before.member(id)).filter(|way| *way.target() == target);
            let connections = match known {
                Some(way) => way.connections().into(),
                None => self.connections(config, &member, target),
            };
            // Without a pool the credential belongs to the caller, which may have its own.
            let own = member.credential.as_ref().filter(|_| !config.upstreams.is_empty());
            let names = [member.organization.as_deref(), member.project.as_deref()];
            let credential =
                own.map(|key| credential(&key.secret, member.auth, names, &place)).transpose()?;
            let pair = |of: &ModelName| (of.model.as_str().into(), of.name.as_str().into());
            let models = member.names.iter().map(pair).collect();
            ways.push(Arc::new(PoolMember::new(id, connections, credential, models)));
        }
        let home = ways.remove(0);
        Ok(Upstreams::of(home, ways, Arc::clone(&self.owners)))
    }

    fn connections(&self, config: &Config, member: &Member, target: Target) -> Box<[Upstream]> {
        let of_pool = !config.upstreams.is_empty();
        let direct = of_pool && !proxy::is_for(&member.url, &config.upstream.no_proxy);
        let connector = if direct { &self.direct } else { &self.connector };
        let target = Arc::new(target);
        let one = |_| {
            let (counters, tunnels) = (Arc::clone(&self.counters), Arc::clone(&self.tunnels));
            Upstream::with_tunnels(Arc::clone(&target), self.settings, counters, connector.clone(), tunnels)
        };
        (0..self.workers).map(one).collect()
    }
}

/// The path of a member's section.
fn place(config: &Config, member: &Member) -> String {
    let index = config.upstreams.iter().position(|other| other.name == member.name);
    index.map_or_else(|| "upstream".to_owned(), |index| format!("upstreams[{index}]"))
}

/// The credential for requests to a member that has one configured.
pub(super) fn credential(
    key: &Secret,
    style: AuthHeader,
    [organization, project]: [Option<&str>; 2],
    place: &str,
) -> Result<Credential, Error> {
    Credential::new(key, style, organization, project).map_err(|_| {
        Error::Configuration(format!(
            "{place}.credential: has characters that no header may have; check the secret"
        ))
    })
}
