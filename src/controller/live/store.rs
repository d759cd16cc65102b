//! The children of one kind, by place and by owner: a pass takes out what is its own without looking at all.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use kube::runtime::watcher::Event;
use tokio::sync::watch;

use super::body::packed_all;
use super::{Kind, Live, Wire, Words};

/// The children of one kind, shared by everything that reads.
pub struct Children<K: Kind> {
    shelf: Arc<RwLock<Shelf<K>>>,
    filled: watch::Receiver<bool>,
}

impl<K: Kind> Clone for Children<K> {
    fn clone(&self) -> Self {
        Self {
            shelf: Arc::clone(&self.shelf),
            filled: self.filled.clone(),
        }
    }
}

/// What fills [`Children`].
pub struct Writer<K: Kind> {
    shelf: Arc<RwLock<Shelf<K>>>,
    /// What a list has shown so far.
    listed: Shelf<K>,
    words: Words,
    filled: watch::Sender<bool>,
}

/// What an event says that was not known.
#[derive(Debug)]
pub enum News<K: Kind> {
    /// Nothing, yet.
    None,
    /// A child changed or went.
    Of(Arc<Live<K>>),
    /// A list was read anew: anything may have changed or gone.
    Everything,
}

struct Shelf<K: Kind> {
    places: HashMap<Arc<str>, BTreeSet<ByName<K>>>,
    owners: HashMap<Arc<str>, Vec<Arc<Live<K>>>>,
}

impl<K: Kind> Default for Shelf<K> {
    fn default() -> Self {
        Self {
            places: HashMap::new(),
            owners: HashMap::new(),
        }
    }
}

/// A child of a namespace, in the order of names.
struct ByName<K: Kind>(Arc<Live<K>>);

impl<K: Kind> Borrow<str> for ByName<K> {
    fn borrow(&self) -> &str {
        &self.0.name
    }
}

impl<K: Kind> PartialEq for ByName<K> {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl<K: Kind> Eq for ByName<K> {}

impl<K: Kind> PartialOrd for ByName<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Kind> Ord for ByName<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.name.cmp(&other.0.name)
    }
}

impl<K: Kind> Children<K> {
    /// An empty store, and what fills it.
    pub fn new() -> (Self, Writer<K>) {
        let shelf = Arc::new(RwLock::new(Shelf::default()));
        let (sender, filled) = watch::channel(false);
        let writer = Writer {
            shelf: Arc::clone(&shelf),
            listed: Shelf::default(),
            words: Words::default(),
            filled: sender,
        };
        (Self { shelf, filled }, writer)
    }

    /// Waits until the store has been filled once.
    ///
    /// # Errors
    /// When its watch ended before that.
    pub async fn wait_until_ready(&self) -> Result<(), watch::error::RecvError> {
        self.filled.clone().wait_for(|filled| *filled).await.map(drop)
    }

    /// Children in a namespace that `uid` controls, and those whose name starts with `prefix`, by name.
    pub fn of(&self, namespace: &str, uid: &str, prefix: &str) -> BTreeMap<String, Arc<Live<K>>> {
        let all = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
        let owned = all.owners.get(uid).into_iter().flatten();
        let owned = owned.filter(|child| &*child.namespace == namespace);
        let named = all.places.get(namespace).into_iter().flat_map(|place| {
            let from = place.range::<str, _>((Bound::Included(prefix), Bound::Unbounded));
            from.map(|child| &child.0)
                .take_while(|child| child.name.starts_with(prefix))
        });
        named
            .chain(owned)
            .map(|child| (child.name.to_string(), Arc::clone(child)))
            .collect()
    }
}

impl<K: Kind> Writer<K> {
    /// Stores an event and says what of it is news.
    pub fn apply(&mut self, event: Event<Wire<K>>) -> News<K> {
        let write = || self.shelf.write().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Apply(mut wire) => {
                wire.live.share(&mut self.words);
                let child = Arc::new(wire.live);
                write().put(&child);
                packed_all();
                News::Of(child)
            }
            Event::Delete(wire) => {
                let child = Arc::new(wire.live);
                write().take(&child);
                News::Of(child)
            }
            Event::Init => {
                self.listed = Shelf::default();
                News::None
            }
            Event::InitApply(wire) => {
                let mut child = wire.live;
                child.share(&mut self.words);
                {
                    let known = self.shelf.read().unwrap_or_else(PoisonError::into_inner);
                    child.settle(known.get(&child).map(AsRef::as_ref));
                }
                // A page may show again what an earlier one has shown.
                self.listed.take(&child);
                self.listed.insert(&Arc::new(child));
                News::None
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                *write() = listed;
                packed_all();
                self.filled.send_replace(true);
                News::Everything
            }
        }
    }
}

#[expect(clippy::mutable_key_type, reason = "the order is that of names, which stay")]
impl<K: Kind> Shelf<K> {
    fn get(&self, like: &Live<K>) -> Option<&Arc<Live<K>>> {
        Some(&self.places.get(&like.namespace)?.get(&*like.name)?.0)
    }

    fn put(&mut self, child: &Arc<Live<K>>) {
        let known = self.take(child);
        child.settle(known.as_deref());
        self.insert(child);
    }

    fn insert(&mut self, child: &Arc<Live<K>>) {
        if let Some(owner) = &child.controller {
            let owned = self.owners.entry(owner.uid.clone()).or_default();
            owned.push(Arc::clone(child));
        }
        let place = self.places.entry(child.namespace.clone()).or_default();
        place.replace(ByName(Arc::clone(child)));
    }

    /// Takes out what has this child's name.
    fn take(&mut self, child: &Live<K>) -> Option<Arc<Live<K>>> {
        let place = self.places.get_mut(&child.namespace)?;
        let known = place.take(&*child.name)?.0;
        if place.is_empty() {
            self.places.remove(&child.namespace);
        }
        if let Some(owner) = &known.controller
            && let Some(owned) = self.owners.get_mut(&owner.uid)
        {
            owned.retain(|other| !Arc::ptr_eq(other, &known));
            if owned.is_empty() {
                self.owners.remove(&owner.uid);
            }
        }
        Some(known)
    }
}
