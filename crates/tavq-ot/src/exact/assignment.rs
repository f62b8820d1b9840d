//! Assignment: as many sources as targets, one mass for all. Shortest augmenting paths with prices (Jonker and Volgenant
//! 1987) over a core of arcs that grows (Volgenant 1996).
//!
//! Columns carry a price `v`; an assigned row has the reduced cost `u_i = c_i,x(i) - v_x(i)`, and no arc of the core is
//! below that. Rows first bid for columns (the augmenting row reduction), which assigns most of them; each row left over
//! gets the shortest augmenting path, by Dijkstra's method with a heap. When every row has a column, one pass over the
//! matrix frees the rows that have a cheaper arc outside the core and takes those arcs in; arcs never leave, so this ends.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use ndarray::ArrayView2;

use crate::exact::core::{Core, Selection, is_negative};
use crate::exact::start;
use crate::simd::{Kernel, SPAN};

const NONE: u32 = u32::MAX;
/// Arcs a row of the first core.
const KEEP: usize = 16;
/// Most arcs that one pass adds to a row.
const ADDED: usize = 64;
/// Bids a row, on average, over one core.
const BIDS: usize = 8;
/// Cores to bid over before the paths. The prices of the first bids give the second core its arcs to columns that no row
/// likes best; without those a row may have no path.
const CORES: usize = 2;

/// Where the method ended.
pub(crate) struct Matching {
    /// Column of each row; `None` where the iterations ran out or no path exists.
    pub(crate) columns: Vec<Option<usize>>,
    /// Price of each column.
    pub(crate) prices: Vec<f64>,
    /// Rows that the finite costs cannot serve.
    pub(crate) stranded: usize,
    /// Bids and paths.
    pub(crate) steps: usize,
    pub(crate) optimal: bool,
}

/// What a run may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bids and paths.
    pub(crate) steps: usize,
    /// Arcs that the searches for a path look at; costs in few dimensions make paths that touch most of the core.
    pub(crate) work: usize,
}

/// The cheapest assignment of the rows of `cost` (n x n, contiguous rows, +inf forbidden) to its columns; the prices so far
/// when the work ran out.
pub(crate) fn run(cost: ArrayView2<'_, f64>, limits: Limits) -> Result<Matching, Vec<f64>> {
    let mut state = State::new(cost, limits.steps);
    let (mut free, mut optimal, mut stranded) = (VecDeque::new(), true, 0);
    for _ in 0..CORES {
        if optimal {
            free = state.gather();
            optimal = state.bid(&mut free);
        }
    }
    while optimal && !free.is_empty() {
        for row in free.drain(..) {
            if state.steps == limits.steps {
                optimal = false;
                break;
            }
            if state.work > limits.work {
                return Err(state.v);
            }
            state.steps += 1;
            stranded += usize::from(!state.augment(row as usize));
        }
        // Without a plan there is nothing to improve.
        if optimal && stranded == 0 {
            free = state.admit();
        }
    }
    let columns = state.column_of.iter().map(|&j| (j != NONE).then_some(j as usize)).collect();
    Ok(Matching { columns, prices: state.v, stranded, steps: state.steps, optimal })
}

struct State<'a> {
    cost: ArrayView2<'a, f64>,
    arcs: Vec<Vec<(u32, f64)>>,
    v: Vec<f64>,
    column_of: Vec<u32>,
    row_of: Vec<u32>,
    steps: usize,
    max_steps: usize,
    work: usize,
    search: Search,
}

/// What one search for a path needs; kept so that it is allocated once.
struct Search {
    distance: Vec<f64>,
    /// Row that a column was reached from.
    from: Vec<u32>,
    done: Vec<bool>,
    /// Columns reached, in the order of reaching.
    reached: Vec<u32>,
    /// Rows of the tree, with the length of the path to each.
    rows: Vec<(u32, f64)>,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
}

impl<'a> State<'a> {
    fn new(cost: ArrayView2<'a, f64>, max_steps: usize) -> Self {
        let n = cost.nrows();
        let search = Search {
            distance: vec![f64::INFINITY; n],
            from: vec![NONE; n],
            done: vec![false; n],
            reached: Vec::new(),
            rows: Vec::new(),
            heap: BinaryHeap::new(),
        };
        let (column_of, row_of) = (vec![NONE; n], vec![NONE; n]);
        Self {
            cost,
            arcs: vec![Vec::new(); n],
            v: start::column_reduction(cost),
            column_of,
            row_of,
            steps: 0,
            max_steps,
            work: 0,
            search,
        }
    }

    /// Starts over with the core that the prices give; every row is free.
    fn gather(&mut self) -> VecDeque<u32> {
        let u = start::row_reduction(self.cost, &self.v);
        let core = Core::new(&Selection { cost: self.cost, u: &u, v: &self.v, keep: KEEP }, 0.0);
        self.arcs.iter_mut().for_each(Vec::clear);
        core.for_each(|i, j, c| self.arcs[i].push((j as u32, c)));
        self.column_of.fill(NONE);
        self.row_of.fill(NONE);
        (0..self.v.len() as u32).collect()
    }

    /// Lets free rows take their cheapest column and lower its price to where the second cheapest is as good. Whether
    /// there were steps enough; the rows that end without a column stay in `free`.
    fn bid(&mut self, free: &mut VecDeque<u32>) -> bool {
        let most = BIDS * self.v.len();
        let mut aside = VecDeque::new();
        for _ in 0..most {
            let Some(row) = free.pop_front() else { break };
            if self.steps == self.max_steps {
                free.push_front(row);
                return false;
            }
            self.steps += 1;
            let (mut first, mut second, mut column) = (f64::INFINITY, f64::INFINITY, NONE);
            for &(j, c) in &self.arcs[row as usize] {
                let reduced = c - self.v[j as usize];
                if reduced < first {
                    (second, first, column) = (first, reduced, j);
                } else if reduced < second {
                    second = reduced;
                }
            }
            // Without a second arc there is no price to bid.
            if second == f64::INFINITY {
                aside.push_back(row);
                continue;
            }
            self.v[column as usize] -= second - first;
            let displaced = std::mem::replace(&mut self.row_of[column as usize], row);
            self.column_of[row as usize] = column;
            if displaced != NONE {
                self.column_of[displaced as usize] = NONE;
                free.push_back(displaced);
            }
        }
        free.append(&mut aside);
        true
    }

    /// Assigns a free row along the shortest path to a free column; false when there is no path.
    fn augment(&mut self, row: usize) -> bool {
        self.search.rows.push((row as u32, 0.0));
        // The reduced costs of a free row may be negative, which a constant mends: any row potential will do for it.
        let base = self.arcs[row].iter().map(|&(j, c)| c - self.v[j as usize]).fold(f64::INFINITY, f64::min);
        let base = if base == f64::INFINITY { 0.0 } else { base };
        self.relax(row, base, 0.0);
        let (mut expanded, mut farthest) = (0, 0.0);
        let end = loop {
            let Some(Reverse((_, column))) = self.search.heap.pop() else {
                // The core leads nowhere: on with the whole rows.
                while expanded < self.search.rows.len() {
                    let (row, length) = self.search.rows[expanded];
                    expanded += 1;
                    let base = if expanded == 1 { base } else { self.reduced_of(row as usize) };
                    self.relax_all(row as usize, base, length, farthest);
                }
                if self.search.heap.is_empty() {
                    break NONE;
                }
                continue;
            };
            let j = column as usize;
            if self.search.done[j] {
                continue;
            }
            self.search.done[j] = true;
            let next = self.row_of[j];
            if next == NONE {
                break column;
            }
            let length = self.search.distance[j];
            farthest = length;
            self.search.rows.push((next, length));
            self.relax(next as usize, self.reduced_of(next as usize), length);
        };
        if end != NONE {
            self.flip(row, end);
        }
        self.forget();
        end != NONE
    }

    /// `u` of an assigned row.
    fn reduced_of(&self, row: usize) -> f64 {
        let column = self.column_of[row] as usize;
        self.cost[[row, column]] - self.v[column]
    }

    fn relax(&mut self, row: usize, base: f64, length: f64) {
        self.work += self.arcs[row].len();
        for &(j, c) in &self.arcs[row] {
            self.search.reach(row, j, length + (c - self.v[j as usize] - base).max(0.0));
        }
    }

    /// The same over all allowed arcs, which count as no shorter than 0 and as leading no nearer than `farthest`, where the
    /// core ended. A row whose arc was lengthened so gets a potential that is too low, which the arcs of the core allow.
    fn relax_all(&mut self, row: usize, base: f64, length: f64, farthest: f64) {
        self.work += self.v.len();
        for (j, (&c, &v)) in self.cost.row(row).iter().zip(&self.v).enumerate() {
            if c < f64::INFINITY {
                self.search.reach(row, j as u32, (length + (c - v - base).max(0.0)).max(farthest));
            }
        }
    }

    /// Assigns along the path that ends in the free column `end`, and moves the prices of the tree.
    fn flip(&mut self, start: usize, end: u32) {
        let shortest = self.search.distance[end as usize];
        for &j in &self.search.reached {
            let j = j as usize;
            if self.search.done[j] {
                self.v[j] += self.search.distance[j] - shortest;
            }
        }
        let mut column = end;
        loop {
            let row = self.search.from[column as usize];
            self.row_of[column as usize] = row;
            let before = std::mem::replace(&mut self.column_of[row as usize], column);
            if row as usize == start {
                return;
            }
            column = before;
        }
    }

    fn forget(&mut self) {
        let search = &mut self.search;
        for &j in &search.reached {
            (search.distance[j as usize], search.done[j as usize]) = (f64::INFINITY, false);
        }
        search.reached.clear();
        search.rows.clear();
        search.heap.clear();
    }

    /// Takes arcs below their row's own into the core and frees those rows, which it returns.
    fn admit(&mut self) -> VecDeque<u32> {
        let (kernel, mut lows) = (Kernel::detect(), vec![0.0; self.v.len().div_ceil(SPAN)]);
        let mut free = VecDeque::new();
        for (i, row) in self.cost.outer_iter().enumerate() {
            let (u, mut found) = (self.reduced_of(i), Vec::new());
            let Some(row) = row.to_slice() else { continue };
            kernel.lows(row, &self.v, &mut lows);
            for (k, _) in lows.iter().enumerate().filter(|&(_, &low)| low < u) {
                let span = row.iter().zip(&self.v).enumerate().skip(k * SPAN).take(SPAN);
                let below = span.filter(|&(_, (&c, &v))| is_negative(c - v - u, c, u, v));
                found.extend(below.map(|(j, (&c, _))| (j as u32, c)));
            }
            // An arc of the core can be below by rounding alone.
            found.retain(|&(j, _)| self.arcs[i].iter().all(|&(known, _)| known != j));
            found.truncate(ADDED);
            if !found.is_empty() {
                self.arcs[i].append(&mut found);
                self.row_of[self.column_of[i] as usize] = NONE;
                self.column_of[i] = NONE;
                free.push_back(i as u32);
            }
        }
        free
    }
}

impl Search {
    fn reach(&mut self, row: usize, column: u32, distance: f64) {
        let j = column as usize;
        if distance < self.distance[j] && !self.done[j] {
            if self.distance[j] == f64::INFINITY {
                self.reached.push(column);
            }
            (self.distance[j], self.from[j]) = (distance, row as u32);
            // The bits of numbers that are not negative order like the numbers.
            self.heap.push(Reverse((distance.to_bits(), column)));
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::Array2;

    use super::*;

    fn solve(cost: &Array2<f64>) -> Matching {
        run(cost.view(), Limits { steps: usize::MAX, work: usize::MAX }).unwrap()
    }

    fn cost_of(cost: &Array2<f64>, matching: &Matching) -> f64 {
        let mut taken = vec![false; cost.ncols()];
        let columns = matching.columns.iter().map(|column| column.unwrap());
        columns.enumerate().map(|(i, j)| (!std::mem::replace(&mut taken[j], true), cost[[i, j]])).fold(
            0.0,
            |sum, (new, c)| {
                assert!(new);
                sum + c
            },
        )
    }

    /// Every assignment of up to 7 rows.
    fn cheapest(cost: &Array2<f64>, row: usize, taken: &mut Vec<bool>) -> f64 {
        if row == cost.nrows() {
            return 0.0;
        }
        let mut best = f64::INFINITY;
        for j in 0..cost.ncols() {
            if !taken[j] {
                taken[j] = true;
                best = best.min(cost[[row, j]] + cheapest(cost, row + 1, taken));
                taken[j] = false;
            }
        }
        best
    }

    #[test]
    fn small_assignments_are_the_cheapest_of_all() {
        for (n, modulus) in [(1, 5), (2, 3), (5, 7), (6, 4), (7, 101), (7, 2)] {
            for seed in 0..20 {
                let number =
                    |(i, j): (usize, usize)| (31 * i * i + 17 * j + 13 * i * j * (seed + 1) + 7 * seed) % modulus;
                let cost = Array2::from_shape_fn((n, n), |place| number(place) as f64);
                let matching = solve(&cost);
                assert!(matching.optimal && matching.stranded == 0);
                assert_eq!(cost_of(&cost, &matching), cheapest(&cost, 0, &mut vec![false; n]), "{cost}");
            }
        }
    }

    #[test]
    fn rows_without_a_path_are_counted() {
        // The first four rows share three columns.
        let cost = Array2::from_shape_fn((6, 6), |(i, j)| if i < 4 && j >= 3 { f64::INFINITY } else { (i * j) as f64 });
        let matching = solve(&cost);
        assert_eq!(matching.stranded, 1);
    }

    #[test]
    fn a_core_without_an_assignment_is_left() {
        // Ties fill the core of each row with its first columns.
        let constant = Array2::from_elem((200, 200), 2.0);
        assert_eq!(cost_of(&constant, &solve(&constant)), 400.0);
        // Every row likes the same few columns.
        let hub = Array2::from_shape_fn((150, 150), |(i, j)| if j < 3 { 0.0 } else { 1e3 + ((i * j) % 11) as f64 });
        let best = crate::exact::simplex::run(&[1; 150], &[1; 150], hub.view(), usize::MAX, None);
        let mut expected = 0.0;
        best.tree.for_each_arc(|i, j, flow| expected += flow as f64 * hub[[i, j]]);
        assert_eq!(cost_of(&hub, &solve(&hub)), expected);
    }
}
