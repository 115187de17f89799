//! Whose limits the answers of one scope tell of, where the upstream names an owner: a region, a
//! deployment. One address may spread its requests over several, each with limits of its own.

/// Owners of one scope that are told apart; what a further one tells is counted, and not kept.
const MOST: usize = 4;
/// The weight of one answer in the part of all that an owner gives.
const WEIGHT: f64 = 1.0 / 128.0;
/// A part is lowered once it falls below this much of what is used of it, and raised at once: a
/// limit that is shared out too generously draws refusals.
const LOWERED: f64 = 0.85;
/// An owner that fewer than this part of the answers name is forgotten.
const GONE: f64 = 1.0 / 256.0;

/// The owners that answers named of late.
#[derive(Debug, Default)]
pub(super) struct Owners(Vec<Owner>);

#[derive(Debug)]
struct Owner {
    name: u64,
    /// The part of the answers that are its, smoothed.
    part: f64,
    /// The part that is used of it.
    used: f64,
}

impl Owners {
    /// An answer named this owner: the part of all requests that its limits count, or nothing where
    /// too many owners are known.
    pub(super) fn answered(&mut self, name: u64) -> Option<f64> {
        if !self.0.iter().any(|owner| owner.name == name) {
            if self.0.len() == MOST {
                return None;
            }
            // As if all had the same part, until the answers tell.
            let part = 1.0 / (self.0.len() + 1) as f64;
            self.0.iter_mut().for_each(|owner| owner.part *= 1.0 - part);
            self.0.push(Owner { name, part, used: 0.0 });
        }
        let mut part = None;
        for owner in &mut self.0 {
            let is_it = owner.name == name;
            owner.part += (f64::from(u8::from(is_it)) - owner.part) * WEIGHT;
            if owner.part > owner.used || owner.part < owner.used * LOWERED {
                owner.used = owner.part;
            }
            part = part.or(is_it.then_some(owner.used));
        }
        part
    }

    /// Whether all answers name the same.
    pub(super) fn are_one(&self) -> bool {
        self.0.len() == 1
    }

    /// Forgets an owner that hardly any answer names, and says which.
    pub(super) fn gone(&mut self) -> Option<u64> {
        let index = self.0.iter().position(|owner| owner.part < GONE)?;
        Some(self.0.swap_remove(index).name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_follow_the_answers_and_an_owner_that_is_gone_is_forgotten() {
        let mut owners = Owners::default();
        assert!((owners.answered(1).unwrap() - 1.0).abs() < 1e-9);
        for _ in 0..400 {
            owners.answered(1);
            owners.answered(2);
            owners.answered(2);
        }
        let (one, two) = (owners.answered(1).unwrap(), owners.answered(2).unwrap());
        assert!((0.33..0.4).contains(&one) && (0.66..0.7).contains(&two), "{one} and {two}");
        (0..800).for_each(|_| assert!(owners.answered(2).is_some()));
        assert_eq!((owners.gone(), owners.gone()), (Some(1), None));
        for name in 3..=5 {
            owners.answered(name);
        }
        assert_eq!(owners.answered(6), None, "one place for each of four");
    }
}
