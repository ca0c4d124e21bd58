//! Lists of runs on the wire: the texts of their shapes once, and runs that name them by position.

use std::collections::BTreeMap;
use std::sync::Arc;

use muster_core::id::JobRef;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{BelievedRun, LeasedRun};
use crate::shape::ShapeText;
use crate::text;

/// Shapes in the order in which they were met.
#[derive(Default)]
pub(crate) struct Shapes {
    pub(crate) texts: Vec<ShapeText>,
    by_pointer: BTreeMap<usize, u32>,
    by_text: BTreeMap<String, u32>,
}

impl Shapes {
    pub(crate) fn position(&mut self, shape: &ShapeText) -> u32 {
        let pointer = Arc::as_ptr(&shape.0) as usize;
        if let Some(position) = self.by_pointer.get(&pointer) {
            return *position;
        }
        let next = u32::try_from(self.texts.len()).expect("a message has fewer than 2^32 shapes");
        let position = *self.by_text.entry(shape.to_string()).or_insert(next);
        if position == next {
            self.texts.push(shape.clone());
        }
        self.by_pointer.insert(pointer, position);
        position
    }
}

#[derive(Serialize, Deserialize)]
struct Wire<R> {
    #[serde(with = "text::list")]
    shapes: Vec<ShapeText>,
    runs: Vec<R>,
}

/// (job, attempt, node, shape).
#[derive(Serialize, Deserialize)]
struct Leased(#[serde(with = "text")] JobRef, u32, String, u32);

/// The same, and the state.
#[derive(Serialize, Deserialize)]
struct Believed(Leased, String);

fn to_wire(run: &LeasedRun, shapes: &mut Shapes) -> Leased {
    Leased(run.job, run.attempt, run.node.clone(), shapes.position(&run.shape))
}

fn from_wire<E: de::Error>(run: Leased, shapes: &[ShapeText]) -> Result<LeasedRun, E> {
    let Leased(job, attempt, node, shape) = run;
    let shape = shapes.get(shape as usize).ok_or_else(|| E::custom("a run names no shape"))?;
    Ok(LeasedRun { job, attempt, node, shape: shape.clone() })
}

pub(super) mod leased {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        runs: &[LeasedRun],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut shapes = Shapes::default();
        let runs = runs.iter().map(|run| to_wire(run, &mut shapes)).collect();
        Wire { shapes: shapes.texts, runs }.serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<LeasedRun>, D::Error> {
        let wire = Wire::<Leased>::deserialize(deserializer)?;
        wire.runs.into_iter().map(|run| from_wire(run, &wire.shapes)).collect()
    }
}

pub(super) mod believed {
    use super::*;

    pub(in super::super) fn serialize<S: Serializer>(
        runs: &[BelievedRun],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut shapes = Shapes::default();
        let wire = |run: &BelievedRun| Believed(to_wire(&run.run, &mut shapes), run.state.clone());
        let runs = runs.iter().map(wire).collect();
        Wire { shapes: shapes.texts, runs }.serialize(serializer)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<BelievedRun>, D::Error> {
        let wire = Wire::<Believed>::deserialize(deserializer)?;
        let run =
            |Believed(run, state)| Ok(BelievedRun { run: from_wire(run, &wire.shapes)?, state });
        wire.runs.into_iter().map(run).collect()
    }
}

#[cfg(test)]
mod tests {
    use muster_core::id::JobId;
    use muster_core::shape::Shape;

    use super::*;
    use crate::bus::{LeaseAnswer, Room, RunPage, decode, encode};

    fn runs(shapes: usize) -> Vec<LeasedRun> {
        let shape = |n: usize| {
            let mut shape = Shape::of_request([].into_iter().collect());
            shape.node_selector.insert("zone".into(), format!("{n:0>900}").as_str().into());
            ShapeText(Arc::new(shape))
        };
        let shapes: Vec<ShapeText> = (0..shapes).map(shape).collect();
        let run = |n: usize| LeasedRun {
            job: JobRef::task(JobId::MAX, u32::MAX - 1 - n as u32),
            attempt: u32::MAX,
            node: format!("a-node-with-a-name-{n}"),
            shape: shapes[n % shapes.len()].clone(),
        };
        (0..5_000).map(run).collect()
    }

    #[test]
    fn a_shape_is_sent_once_a_message() {
        let leases = runs(3);
        let answer = LeaseAnswer {
            session: "s".into(),
            answer: 1,
            version: 2,
            leases: leases.clone(),
            stops: Vec::new(),
        };
        let bytes = encode(&answer);
        assert!(bytes.len() < 3 * 1000 + 5_000 * 100, "{} bytes", bytes.len());
        let read: LeaseAnswer = decode(&bytes).unwrap();
        assert!(read.leases == leases);
    }

    #[test]
    fn as_many_runs_as_have_room_fit_a_message_whatever_their_shapes() {
        for shapes in [1, 40, 5_000] {
            let bytes_max = 200_000;
            let mut room = Room::of_message(bytes_max);
            let state = || "running".to_owned();
            let page: Vec<BelievedRun> = runs(shapes)
                .into_iter()
                .take_while(|run| room.take_run(run))
                .map(|run| BelievedRun { run, state: state() })
                .collect();
            let bytes = encode(&RunPage { agreed: false, runs: page.clone(), more: true });
            assert!(bytes.len() <= bytes_max, "{} bytes", bytes.len());
            assert!(bytes.len() > bytes_max / 2, "{} bytes", bytes.len());
            let read: RunPage = decode(&bytes).unwrap();
            assert!(read.runs == page);
        }
    }
}
