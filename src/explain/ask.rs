//! How the operator's listener asks its rebalancer for a document: one question at a time, with a deadline, over a channel
//! of one. What nobody asks for costs nothing, and who asks all the time delays no decision by more than one document per
//! [`PAUSE`].

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{Mutex, mpsc, oneshot};

use super::Document;

/// How long an answer may take, waiting for one's turn included.
const DEADLINE: Duration = Duration::from_secs(2);
/// Between two questions to the rebalancer, which then does something else.
const PAUSE: Duration = Duration::from_millis(50);

/// A question to the rebalancer.
#[derive(Debug)]
pub struct Question {
    /// Namespace of the pipeline.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Where the answer goes; `None` if the operator looks at no such pipeline. Whoever asked may be gone.
    pub answer: oneshot::Sender<Option<Document>>,
}

/// Why there is no document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Another instance leads, or none does.
    #[error("this operator does not lead: ask the one that does")]
    Standby,
    /// It leads, and does not plan this pipeline.
    #[error(
        "the operator does not plan this pipeline: it is new, its spec is refused, or another namespace is watched; see its conditions"
    )]
    Unknown,
    /// Too much to do, or too many questions.
    #[error("the operator has no answer within {} s: ask again", DEADLINE.as_secs())]
    Busy,
}

/// Asks the rebalancer, once there is one. A handle: clones share everything.
#[derive(Clone, Debug, Default)]
pub struct Asker(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    questions: OnceLock<mpsc::Sender<Question>>,
    turn: Mutex<()>,
}

impl Asker {
    /// The questions, for a rebalancer that begins; there is one per process, and a second hears nothing.
    pub fn open(&self) -> mpsc::Receiver<Question> {
        let (sender, questions) = mpsc::channel(1);
        // The first receiver is the one that is asked.
        let _ = self.0.questions.set(sender);
        questions
    }

    /// The document of one pipeline.
    ///
    /// # Errors
    /// This process does not lead, the pipeline is not planned, or there is no answer in time.
    pub async fn ask(&self, namespace: &str, name: &str) -> Result<Document, Error> {
        let answered = tokio::time::timeout(DEADLINE, self.take_turn(namespace, name));
        answered.await.unwrap_or(Err(Error::Busy))
    }

    async fn take_turn(&self, namespace: &str, name: &str) -> Result<Document, Error> {
        let questions = self.0.questions.get().ok_or(Error::Standby)?;
        let turn = self.0.turn.lock().await;
        let (answer, answered) = oneshot::channel();
        let question = Question {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            answer,
        };
        // A rebalancer that has ended leads no more.
        questions.send(question).await.map_err(|_| Error::Standby)?;
        let document = answered.await.map_err(|_| Error::Standby)?;
        tokio::time::sleep(PAUSE).await;
        drop(turn);
        document.ok_or(Error::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(name: &str) -> Document {
        Document {
            pipeline: name.to_owned(),
            ..Document::default()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_lead_says_so_and_who_leads_answers() {
        let asker = Asker::default();
        assert_eq!(asker.ask("rag", "chat").await, Err(Error::Standby));
        let mut questions = asker.open();
        let rebalancer = tokio::spawn(async move {
            for _ in 0..2 {
                let question = questions.recv().await.unwrap();
                let known = question.name == "chat";
                question.answer.send(known.then(|| document("chat"))).unwrap();
            }
        });
        assert_eq!(asker.ask("rag", "chat").await, Ok(document("chat")));
        assert_eq!(asker.ask("rag", "other").await, Err(Error::Unknown));
        rebalancer.await.unwrap();
        assert_eq!(asker.ask("rag", "chat").await, Err(Error::Standby), "it has ended");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rebalancer_that_hangs_is_given_up_and_asked_one_question_at_most() {
        let asker = Asker::default();
        let mut questions = asker.open();
        let all = futures::future::join_all((0..50).map(|_| asker.ask("rag", "chat"))).await;
        assert!(all.iter().all(|answer| *answer == Err(Error::Busy)), "{all:?}");
        assert!(questions.try_recv().is_ok());
        assert!(questions.try_recv().is_err(), "nobody else got in line");
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_of_questions_leaves_the_rebalancer_time_between_two() {
        let asker = Asker::default();
        let mut questions = asker.open();
        let started = tokio::time::Instant::now();
        let rebalancer = tokio::spawn(async move {
            let mut times = Vec::new();
            while let Some(question) = questions.recv().await {
                times.push(started.elapsed());
                let _ = question.answer.send(Some(document("chat")));
            }
            times
        });
        let all = futures::future::join_all((0..20).map(|_| asker.ask("rag", "chat"))).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
        drop(asker);
        let times = rebalancer.await.unwrap();
        assert_eq!(times.len(), 20);
        assert!(times.windows(2).all(|pair| pair[0] + PAUSE <= pair[1]), "{times:?}");
    }
}
