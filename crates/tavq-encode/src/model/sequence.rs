//! Model inputs, what is taken from their states, and how they share batches.

use std::ops::Range;

use super::tokens::Tokens;

/// One model input and the sums that its states join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Sequence {
    /// Token ids, special tokens included.
    pub(crate) ids: Vec<i64>,
    /// State at this position joins the sum of this target.
    pub(crate) takes: Vec<(usize, usize)>,
}

/// A target of pooling: the mean over some tokens of one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Index of the sum.
    pub(crate) index: usize,
    /// The tokens.
    pub(crate) tokens: Range<usize>,
    /// Which of the special tokens around the text join.
    pub(crate) special: Special,
}

/// Special tokens that join a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    Neither,
    /// Both, once each, however many windows there are.
    Frame,
    /// The first end token of each window: that of the window, unless the text holds one itself.
    End,
}

/// Frames the tokens of one text with the special tokens, in as many windows as the positions demand.
pub(crate) fn sequences(tokens: &Tokens, targets: &[Target], first: i64, last: i64, positions: usize) -> Vec<Sequence> {
    let windows = windows(tokens.ids.len(), positions - 2);
    let framed = |w: &Window| {
        let ids = [first].into_iter().chain(tokens.ids[w.sees.clone()].iter().copied()).chain([last]).collect();
        Sequence { ids, takes: Vec::new() }
    };
    let mut out: Vec<Sequence> = windows.iter().map(framed).collect();
    for target in targets {
        let reached = windows.partition_point(|w| w.keeps.end <= target.tokens.start);
        for (w, sequence) in windows.iter().zip(&mut out).skip(reached) {
            let from = target.tokens.start.max(w.keeps.start);
            let to = target.tokens.end.min(w.keeps.end);
            if from >= to {
                break;
            }
            sequence.takes.extend((from..to).map(|t| (1 + t - w.sees.start, target.index)));
        }
        match target.special {
            Special::Neither => {}
            Special::Frame => {
                out[0].takes.push((0, target.index));
                if let Some(end) = out.last_mut() {
                    end.takes.push((end.ids.len() - 1, target.index));
                }
            }
            Special::End => {
                for sequence in &mut out {
                    let end = sequence.ids.iter().position(|id| *id == last);
                    sequence.takes.extend(end.map(|at| (at, target.index)));
                }
            }
        }
    }
    out
}

/// The tokens that a window shows the model and those whose states are taken from it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Window {
    sees: Range<usize>,
    keeps: Range<usize>,
}

// Tokens shared by neighbouring windows, in parts of a window. Each side of a cut keeps half of them as context.
const OVERLAP: usize = 4;

/// Windows of at most `room` tokens over `n` tokens; each token is kept by exactly one, away from its edges.
fn windows(n: usize, room: usize) -> Vec<Window> {
    if n <= room {
        return vec![Window { sees: 0..n, keeps: 0..n }];
    }
    let step = room - room / OVERLAP;
    let count = 1 + (n - room).div_ceil(step);
    let mut out: Vec<Window> = Vec::with_capacity(count);
    let mut kept = 0;
    for i in 0..count {
        let start = (i * step).min(n - room);
        let sees = start..start + room;
        let keeps = if i + 1 == count {
            kept..n
        } else {
            // The cut lies in the middle of what this window shares with the next.
            let next = ((i + 1) * step).min(n - room);
            kept..next + (sees.end - next).div_ceil(2)
        };
        kept = keeps.end;
        out.push(Window { sees, keeps });
    }
    out
}

/// Groups of sequence indices: similar lengths together, padded size at most `budget` tokens, longest first, so
/// that the largest batch meets the memory limit at once. A sequence longer than the budget has its own batch.
pub(crate) fn batches(lengths: &[usize], budget: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
    let mut out: Vec<Vec<usize>> = Vec::new();
    let mut width = 0;
    for i in order {
        match out.last_mut() {
            Some(batch) if (batch.len() + 1) * width <= budget => batch.push(i),
            _ => {
                width = lengths[i];
                out.push(vec![i]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_token_is_kept_once_and_seen_by_its_window() {
        for room in 2..40 {
            for n in 0..200 {
                let all = windows(n, room);
                let mut next = 0;
                for w in &all {
                    assert_eq!(w.keeps.start, next, "{n} in {room}");
                    assert!(w.sees.start <= w.keeps.start && w.keeps.end <= w.sees.end && w.sees.len() <= room);
                    assert!(n <= room || !w.keeps.is_empty(), "{n} in {room}: {all:?}");
                    next = w.keeps.end;
                }
                assert_eq!(next, n);
            }
        }
    }

    #[test]
    fn kept_tokens_have_context_on_both_sides() {
        for w in &windows(2000, 510)[1..] {
            assert!(w.keeps.start - w.sees.start >= 63, "{w:?}");
        }
    }

    #[test]
    fn frame_tokens_join_once() {
        let tokens = Tokens { ids: (10..30).collect(), spans: Vec::new() };
        let all = sequences(&tokens, &[Target { index: 7, tokens: 0..20, special: Special::Frame }], 1, 2, 8);
        assert!(all.len() > 3);
        let mut taken: Vec<i64> = all.iter().flat_map(|s| s.takes.iter().map(|&(p, _)| s.ids[p])).collect();
        taken.sort_unstable();
        let expected: Vec<i64> = [1, 2].into_iter().chain(10..30).collect();
        assert_eq!(taken, expected);
        let none = sequences(&Tokens { ids: vec![], spans: vec![] }, &[], 1, 2, 8);
        assert_eq!(none, [Sequence { ids: vec![1, 2], takes: vec![] }]);
    }

    #[test]
    fn the_first_end_token_of_each_window_joins() {
        let end = |index| Target { index, tokens: 0..0, special: Special::End };
        let tokens = Tokens { ids: vec![10, 2, 11], spans: Vec::new() };
        let all = sequences(&tokens, &[end(3)], 1, 2, 8);
        assert_eq!((all.len(), &all[0].takes), (1, &vec![(2, 3)]));
        let tokens = Tokens { ids: (10..30).collect(), spans: Vec::new() };
        for sequence in sequences(&tokens, &[end(0)], 1, 2, 8) {
            assert_eq!(sequence.takes, [(sequence.ids.len() - 1, 0)]);
        }
    }

    #[test]
    fn batches_hold_every_sequence_within_the_budget() {
        let lengths: Vec<usize> = (0..100).map(|i| (i * 37) % 50 + 1).collect();
        let groups = batches(&lengths, 64);
        let mut seen: Vec<usize> = groups.iter().flatten().copied().collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..100).collect::<Vec<_>>());
        for g in &groups {
            let width = g.iter().map(|&i| lengths[i]).max().unwrap();
            assert!(g.len() == 1 || g.len() * width <= 64);
        }
        assert!(batches(&[], 64).is_empty());
        assert_eq!(batches(&[100, 100], 64).len(), 2);
    }
}
