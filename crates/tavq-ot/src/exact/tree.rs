//! The spanning tree of the simplex: `n` sources, `m` sinks and one root that every node first hangs from.
//!
//! Flows are integers, so ties are exact and a strongly feasible tree stays one: every tree arc without flow points
//! to the root, which rules out cycling. A potential is a pair (units of the artificial cost, ordinary cost)
//! compared lexicographically; no finite "big M" ever mixes with the costs. Potentials are summed along the tree at
//! each move, never corrected in place, so rounding does not pile up over pivots.

const NONE: u32 = u32::MAX;

/// What one pivot did to the tree.
#[derive(Debug, Clone, Copy)]
struct Leaving {
    child: usize,
    on_source_side: bool,
    amount: i64,
}

/// A rooted spanning tree with the flow of each arc stored at its lower end.
pub(crate) struct Tree {
    sources: usize,
    parent: Vec<u32>,
    flow: Vec<i64>,
    depth: Vec<u32>,
    first_child: Vec<u32>,
    next: Vec<u32>,
    previous: Vec<u32>,
    /// Ordinary part of the dual of each source, then of each sink.
    pub(crate) dual: Vec<f64>,
    /// Artificial part of the same duals.
    pub(crate) level: Vec<i32>,
    artificial_flow: i64,
    stack: Vec<u32>,
}

impl Tree {
    /// Every node on its own artificial arc to the root, carrying its whole mass.
    pub(crate) fn new(source: &[i64], target: &[i64]) -> Self {
        let (n, m) = (source.len(), target.len());
        let nodes = n + m;
        let root = nodes as u32;
        let flow: Vec<i64> = source.iter().chain(target).copied().collect();
        let mut first_child = vec![NONE; nodes + 1];
        first_child[nodes] = 0;
        Self {
            sources: n,
            parent: vec![root; nodes],
            artificial_flow: flow.iter().sum(),
            flow,
            depth: (0..=nodes).map(|node| u32::from(node < nodes)).collect(),
            first_child,
            next: (1..=nodes as u32).map(|node| if node == root { NONE } else { node }).collect(),
            previous: (0..nodes as u32).map(|node| node.wrapping_sub(1)).collect(),
            dual: vec![0.0; nodes],
            level: vec![1; nodes],
            stack: Vec::new(),
        }
    }

    /// Flow that still runs over artificial arcs, counted once per unit of mass.
    pub(crate) fn stranded(&self) -> i64 {
        self.artificial_flow / 2
    }

    /// Calls `visit(source, sink, flow)` for each real tree arc.
    pub(crate) fn for_each_arc(&self, mut visit: impl FnMut(usize, usize, i64)) {
        let root = self.parent.len();
        for (child, &parent) in self.parent.iter().enumerate() {
            let parent = parent as usize;
            if parent != root {
                let (source, sink) = if child < self.sources { (child, parent) } else { (parent, child) };
                visit(source, sink - self.sources, self.flow[child]);
            }
        }
    }

    /// Brings the arc `source -> sink` into the tree and takes the blocking arc out.
    ///
    /// `cost` gives the cost of a real arc.
    pub(crate) fn pivot(&mut self, source: usize, sink: usize, cost: impl Fn(usize, usize) -> f64) {
        let sink = self.sources + sink;
        let apex = self.apex(source, sink);
        let leaving = self.leaving(source, sink, apex);
        if leaving.amount > 0 {
            self.push(source, sink, apex, leaving.amount);
        }
        let (inner, outer) = if leaving.on_source_side { (source, sink) } else { (sink, source) };
        self.rehang(inner, outer, leaving.child, leaving.amount);
        self.refresh(inner, cost);
    }

    fn is_source(&self, node: usize) -> bool {
        node < self.sources
    }

    /// Lowest common ancestor.
    fn apex(&self, mut a: usize, mut b: usize) -> usize {
        while a != b {
            if self.depth[a] >= self.depth[b] {
                a = self.parent[a] as usize;
            } else {
                b = self.parent[b] as usize;
            }
        }
        a
    }

    /// The last blocking arc of the cycle, followed from the apex down to `source`, over the new arc and back up
    /// from `sink`. Taking the last one keeps the tree strongly feasible (Cunningham 1976).
    fn leaving(&self, source: usize, sink: usize, apex: usize) -> Leaving {
        let mut best = Leaving { child: source, on_source_side: true, amount: i64::MAX };
        let mut node = source;
        while node != apex {
            // Pushed downwards here, so an arc that points up (from a source) loses flow.
            if self.is_source(node) && self.flow[node] < best.amount {
                best = Leaving { child: node, on_source_side: true, amount: self.flow[node] };
            }
            node = self.parent[node] as usize;
        }
        node = sink;
        while node != apex {
            if !self.is_source(node) && self.flow[node] <= best.amount {
                best = Leaving { child: node, on_source_side: false, amount: self.flow[node] };
            }
            node = self.parent[node] as usize;
        }
        best
    }

    /// Sends `amount` round the cycle.
    fn push(&mut self, source: usize, sink: usize, apex: usize, amount: i64) {
        let root = self.parent.len();
        for (start, up) in [(source, false), (sink, true)] {
            let mut node = start;
            while node != apex {
                let gains = self.is_source(node) == up;
                let change = if gains { amount } else { -amount };
                self.flow[node] += change;
                let parent = self.parent[node] as usize;
                if parent == root {
                    self.artificial_flow += change;
                }
                node = parent;
            }
        }
    }

    /// Hangs the subtree under `last` onto `outer` by its node `inner`, turning the path between them round.
    fn rehang(&mut self, inner: usize, outer: usize, last: usize, amount: i64) {
        let (mut node, mut new_parent, mut new_flow) = (inner, outer, amount);
        loop {
            let old_parent = self.parent[node] as usize;
            let old_flow = self.flow[node];
            self.detach(node, old_parent);
            self.attach(node, new_parent);
            self.flow[node] = new_flow;
            if node == last {
                return;
            }
            (new_parent, new_flow, node) = (node, old_flow, old_parent);
        }
    }

    fn detach(&mut self, node: usize, parent: usize) {
        let (previous, next) = (self.previous[node], self.next[node]);
        if previous == NONE {
            self.first_child[parent] = next;
        } else {
            self.next[previous as usize] = next;
        }
        if next != NONE {
            self.previous[next as usize] = previous;
        }
    }

    fn attach(&mut self, node: usize, parent: usize) {
        let first = self.first_child[parent];
        self.next[node] = first;
        self.previous[node] = NONE;
        if first != NONE {
            self.previous[first as usize] = node as u32;
        }
        self.first_child[parent] = node as u32;
        self.parent[node] = parent as u32;
    }

    /// Depths and duals of the subtree under `top`, whose arc to its parent is a real one.
    fn refresh(&mut self, top: usize, cost: impl Fn(usize, usize) -> f64) {
        let n = self.sources;
        self.stack.push(top as u32);
        while let Some(node) = self.stack.pop() {
            let node = node as usize;
            let parent = self.parent[node] as usize;
            let arc = if node < n { cost(node, parent - n) } else { cost(parent, node - n) };
            self.dual[node] = arc - self.dual[parent];
            self.level[node] = -self.level[parent];
            self.depth[node] = self.depth[parent] + 1;
            let mut child = self.first_child[node];
            while child != NONE {
                self.stack.push(child);
                child = self.next[child as usize];
            }
        }
    }

    /// Whether every arc without flow points to the root, and flows are never negative.
    #[cfg(test)]
    pub(crate) fn is_strongly_feasible(&self) -> bool {
        self.flow.iter().enumerate().all(|(child, &flow)| flow > 0 || (flow == 0 && self.is_source(child)))
    }
}
