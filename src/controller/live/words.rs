//! Words that thousands of children have in common: namespaces, owners, stages, pools.

use std::collections::HashSet;
use std::sync::Arc;

/// Fewer words than these are not looked through.
const WORDS_MIN: usize = 1_024;

/// Keeps each word once. What nobody has any more goes whenever there are twice as many as were in use.
#[derive(Debug, Default)]
pub(super) struct Words {
    known: HashSet<Arc<str>>,
    tidy_at: usize,
}

impl Words {
    /// Puts the word that is known in the place of one that says the same.
    pub(super) fn share(&mut self, word: &mut Arc<str>) {
        if let Some(known) = self.known.get(&**word) {
            *word = Arc::clone(known);
            return;
        }
        if self.known.len() >= self.tidy_at.max(WORDS_MIN) {
            self.known.retain(|word| Arc::strong_count(word) > 1);
            self.known.shrink_to_fit();
            self.tidy_at = self.known.len() * 2;
        }
        self.known.insert(Arc::clone(word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_kept_once_and_no_longer_than_somebody_has_it() {
        let mut words = Words::default();
        let (mut one, mut other): (Arc<str>, Arc<str>) = ("rag".into(), "rag".into());
        words.share(&mut one);
        words.share(&mut other);
        assert!(Arc::ptr_eq(&one, &other));
        for at in 0..10 * WORDS_MIN {
            words.share(&mut at.to_string().into());
        }
        assert!(words.known.len() <= WORDS_MIN && words.known.contains("rag"));
    }
}
