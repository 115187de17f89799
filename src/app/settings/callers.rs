//! Converts the configured callers to those that identify requests.

use std::net::IpAddr;
use std::sync::Arc;

use crate::caller::origin::Origins;
use crate::caller::{self, Caller, CallerId, Callers, Registry};
use crate::config::Config;
use crate::config::secret::SecretRef;
use crate::rights::Rights;

use super::super::exchanges::shared_credential_name;
use super::super::upstreams::credential;
use super::super::{Error, issuers};

/// The rights of each caller, by its number.
pub(super) fn rights(config: &Config, callers: &Callers) -> Vec<Option<Arc<Rights>>> {
    let configured = config.callers.iter().map(Some).chain([None]);
    let mut table = Vec::new();
    for (caller, of) in callers.all().iter().zip(configured) {
        if let Some(rights) = config.rights_of(of) {
            let place = usize::from(caller.id.0);
            table.resize_with(table.len().max(place + 1), || None);
            table[place] = Some(Arc::new(rights));
        }
    }
    table
}

pub(super) fn callers(config: &Config, registry: &Arc<Registry>) -> Result<Callers, Error> {
    // In a pool with credentials, this one stands for those of all members; each member sends its
    // own.
    let upstream = config.members().into_iter().find(|member| member.credential.is_some());
    let style = upstream.as_ref().map_or(config.upstream.auth, |member| member.auth);
    let credential = |key: &SecretRef, names: [Option<&str>; 2], place: &str| {
        let made = credential(&key.secret, style, names, place)?;
        Ok::<_, Error>(match shared_credential_name(config, key, names) {
            Some(name) => made.known_as(name),
            None => made,
        })
    };
    let everybody = upstream
        .as_ref()
        .and_then(|upstream| {
            let key = upstream.credential.as_ref()?;
            let names = [upstream.organization.as_deref(), upstream.project.as_deref()];
            Some(credential(key, names, "upstream"))
        })
        .transpose()?;
    let mut entries = Vec::with_capacity(config.callers.len());
    for (index, of) in config.callers.iter().enumerate() {
        let own = of
            .credential
            .as_ref()
            .map(|key| {
                let names = [of.organization.as_deref(), of.project.as_deref()];
                credential(key, names, &format!("callers[{index}]"))
            })
            .transpose()?;
        entries.push(caller::Entry {
            caller: Caller {
                id: CallerId(0),
                name: of.name.as_str().into(),
                weight: of.weight,
                lane: of.lane,
                mode: of.mode,
                max_waiting: of.max_waiting,
                max_deadline: of.max_deadline,
            },
            keys: of.all_keys().map(|(_, key)| key.secret.clone()).collect(),
            header: of.header.as_ref().map(|header| (header.name.clone(), header.value.clone())),
            // In the form that certificates use after parsing.
            san: of
                .san
                .as_ref()
                .map(|san| san.parse().map_or_else(|_| san.clone(), |ip: IpAddr| ip.to_string())),
            token: of.token.as_ref().and_then(|token| issuers::claim(config, token, registry)),
            credential: own,
        });
    }
    let serve_unknown = config.serves_unknown_callers();
    let origins = origins(config);
    Ok(Callers::new(caller::Settings { entries, credential: everybody, serve_unknown, origins }, registry))
}

/// The `Host` names that the listener for callers accepts. With a certificate any is accepted: it
/// is not valid for the name of an attacker's page.
fn origins(config: &Config) -> Origins {
    let of = &config.server;
    if (of.listen.ip().is_loopback() && of.tls.cert.is_none()) || !of.hosts.is_empty() {
        Origins::loopback_and(&of.hosts)
    } else {
        Origins::any()
    }
}

/// The most waiting requests of each caller, by its number.
pub(super) fn max_waiting_of(callers: &Callers) -> Vec<Option<usize>> {
    let bounded = || callers.all().iter().filter(|caller| caller.max_waiting.is_some());
    let mut bounds = vec![None; bounded().map(|caller| usize::from(caller.id.0) + 1).max().unwrap_or(0)];
    for caller in bounded() {
        bounds[usize::from(caller.id.0)] = caller.max_waiting;
    }
    bounds
}
