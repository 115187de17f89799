//! The members of a queue: one, or those of a pool, each with its limits and its breaker.
//!
//! A scope of one upstream has one member, and pays for no more.

mod choice;
mod summary;

use std::sync::Arc;

use crate::admission::breaker::Gate;
use crate::admission::moment::Moment;
use crate::admission::settings::{MemberSettings, Settings};
use crate::admission::spent::{Funding, QuotaBreaker};
use crate::caller::shared_name;
use crate::pool::UpstreamId;

use super::member::Member;

use choice::Answer;
pub(super) use choice::{Choice, Query, Taken};

/// Where a request may go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// The only member that can serve it: it names an object that this one owns.
    pub pin: Option<UpstreamId>,
    /// The member that its last attempt failed at: others go first.
    pub after: Option<UpstreamId>,
    /// It must not be the probe of a member that fails, where another member serves: it can't be
    /// repeated.
    pub once: bool,
}

/// All members of one queue. The first lies beside the queue's other fields; a scope of one
/// upstream has no other.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Members {
    first: Member,
    pool: Option<Box<Pool>>,
}

/// What a queue of several members has beside the first.
#[derive(Debug)]
struct Pool {
    /// From index 1 on.
    others: Vec<Member>,
    /// The indices of the members in use by priority, the best first.
    groups: Vec<Group>,
    /// The answer that each member gave last, by index.
    answers: Vec<Answer>,
    /// Waiting requests that the better members can't serve in time.
    spills: usize,
}

#[derive(Debug)]
struct Group {
    priority: u32,
    members: Vec<u16>,
    /// Where the next choice begins.
    cursor: usize,
}

impl Members {
    pub(super) fn new(
        settings: &Settings,
        family: &str,
        mut members: Vec<(UpstreamId, Arc<QuotaBreaker>)>,
        now: Moment,
    ) -> Self {
        let of_family = shared_name([family.as_bytes()]);
        let made = |(id, spent): (UpstreamId, Arc<QuotaBreaker>)| {
            Member::new(id, &settings.limits_of(family, id), Funding::new(spent, of_family), now)
        };
        let others = members.split_off(members.len().min(1));
        let first = made(members.pop().unwrap_or_default());
        let mut new = Self { first, pool: None };
        if !others.is_empty() {
            new.pool = Some(Box::new(Pool::of(others.into_iter().map(made).collect())));
            new.arrange(settings);
        }
        new
    }

    /// The only member, where there is one.
    pub(super) fn sole(&self) -> Option<&Member> {
        self.pool.is_none().then_some(&self.first)
    }

    pub(super) fn sole_mut(&mut self) -> Option<&mut Member> {
        self.pool.is_none().then_some(&mut self.first)
    }

    /// Whether requests have a choice.
    pub(super) fn is_pool(&self) -> bool {
        self.pool.is_some()
    }

    /// Applies other settings: members are known by their names, and what was learned of them
    /// stays. One that is no longer among `members` gets no further request.
    pub(super) fn configure(
        &mut self,
        settings: &Settings,
        family: &str,
        members: Vec<(UpstreamId, Arc<QuotaBreaker>)>,
        now: Moment,
    ) {
        let of_family = shared_name([family.as_bytes()]);
        let stays = |id: UpstreamId| members.iter().any(|(member, _)| *member == id);
        let retired: Vec<u16> = self.indices().filter(|index| !stays(self.of(*index).id)).collect();
        let known: Vec<UpstreamId> = self.indices().map(|index| self.of(index).id).collect();
        for index in self.indices() {
            let member = self.of_mut(index);
            member.retired = retired.contains(&index);
            member.configure(&settings.limits_of(family, member.id), now);
        }
        let new = members.into_iter().filter(|(id, _)| !known.contains(id));
        let new: Vec<Member> = new
            .map(|(id, spent)| {
                Member::new(id, &settings.limits_of(family, id), Funding::new(spent, of_family), now)
            })
            .collect();
        if !new.is_empty() {
            self.pool.get_or_insert_with(|| Box::new(Pool::of(Vec::new()))).others.extend(new);
        }
        self.arrange(settings);
    }

    /// Sorts the members in use by priority.
    fn arrange(&mut self, settings: &Settings) {
        let mut groups: Vec<Group> = Vec::new();
        for index in self.indices() {
            let member = self.of(index);
            if member.retired {
                continue;
            }
            let priority = settings.member(member.id).map_or(0, |member: &MemberSettings| member.priority);
            match groups.iter_mut().find(|group| group.priority == priority) {
                Some(group) => group.members.push(index),
                None => groups.push(Group { priority, members: vec![index], cursor: 0 }),
            }
        }
        groups.sort_by_key(|group| group.priority);
        let count = self.indices().count();
        if let Some(pool) = &mut self.pool {
            pool.groups = groups;
            pool.answers = vec![Answer::default(); count];
        }
    }

    pub(super) fn indices(&self) -> impl Iterator<Item = u16> + use<> {
        let others = self.pool.as_ref().map_or(0, |pool| pool.others.len());
        0..=u16::try_from(others).unwrap_or(u16::MAX)
    }

    /// The members in use, or about to be gone with attempts in flight.
    pub(super) fn all(&self) -> impl Iterator<Item = &Member> {
        std::iter::once(&self.first).chain(self.pool.iter().flat_map(|pool| &pool.others))
    }

    pub(super) fn of(&self, index: u16) -> &Member {
        match (&self.pool, usize::from(index).checked_sub(1)) {
            (Some(pool), Some(other)) => &pool.others[other],
            _ => &self.first,
        }
    }

    pub(super) fn of_mut(&mut self, index: u16) -> &mut Member {
        match (&mut self.pool, usize::from(index).checked_sub(1)) {
            (Some(pool), Some(other)) => {
                pool.forget(index);
                &mut pool.others[other]
            }
            (Some(pool), None) => {
                pool.forget(0);
                &mut self.first
            }
            (None, _) => &mut self.first,
        }
    }

    /// The member of an upstream.
    fn index_of(&self, id: UpstreamId) -> Option<u16> {
        self.indices().find(|index| self.of(*index).id == id)
    }

    /// Whether a member that fails may be asked now.
    pub(super) fn may_probe(&mut self, settings: &Settings, waiting: usize, now: Moment) -> bool {
        let asks = |member: &mut Member| member.gate(settings, waiting, now) == Gate::Probe;
        match &mut self.pool {
            None => asks(&mut self.first),
            Some(pool) => asks(&mut self.first) || pool.others.iter_mut().any(asks),
        }
    }
}

impl Pool {
    fn of(others: Vec<Member>) -> Self {
        Self { others, groups: Vec::new(), answers: Vec::new(), spills: 0 }
    }

    /// Something happened to a member: its last answer says nothing any more.
    fn forget(&mut self, index: u16) {
        if let Some(answer) = self.answers.get_mut(usize::from(index)) {
            answer.look = Moment::START;
        }
    }
}
