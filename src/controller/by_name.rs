//! A few things by name. There is one such list for every stage, and a node of a map has room for eleven.

use std::ops::Deref;
use std::sync::Arc;

/// What is known by name, in the order of names; no more room than it takes.
#[derive(Clone, Debug, PartialEq)]
pub struct ByName<T>(Box<[(Arc<str>, T)]>);

impl<T> ByName<T> {
    /// What has this name.
    pub fn get(&self, name: &str) -> Option<&T> {
        self.0.get(self.place(name)?).map(|(_, value)| value)
    }

    /// The same, to be changed.
    pub fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        let at = self.place(name)?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok()
    }
}

impl<T> Default for ByName<T> {
    fn default() -> Self {
        Self(Box::default())
    }
}

impl<T> Deref for ByName<T> {
    type Target = [(Arc<str>, T)];

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Of two with the same name, the first stays.
impl<T> FromIterator<(Arc<str>, T)> for ByName<T> {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, T)>>(all: I) -> Self {
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_by(|(one, _), (other, _)| one.cmp(other));
        all.dedup_by(|(later, _), (first, _)| later == first);
        Self(all.into_boxed_slice())
    }
}

impl<T, const N: usize> From<[(&str, T); N]> for ByName<T> {
    fn from(all: [(&str, T); N]) -> Self {
        all.into_iter().map(|(name, value)| (name.into(), value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_collected_is_found_by_name_and_of_two_alike_the_first() {
        let mut all = ByName::from([("spot", 1), ("arm", 2), ("l4", 3), ("arm", 4)]);
        let names: Vec<&str> = all.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["arm", "l4", "spot"]);
        assert_eq!(
            (all.get("arm"), all.get("spot"), all.get("h100")),
            (Some(&2), Some(&1), None)
        );
        *all.get_mut("l4").unwrap() = 7;
        assert_eq!(all.get("l4"), Some(&7));
        assert_eq!(all.get_mut(""), None);
        assert_eq!(ByName::<u32>::default().get("arm"), None);
    }
}
