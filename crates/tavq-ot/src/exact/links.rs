//! Parents, sizes and the preorder of a rooted tree, and the move of a subtree (threaded trees: Glover, Klingman and
//! Stutz 1974; sizes in place of depths: Barr, Glover and Klingman 1979).
//!
//! The order is a ring through all nodes and the root. A subtree is the run of it that starts at its top; a move cuts
//! the run out, turns the path from the new top to the old one round, and lets the run in after the new parent. That
//! costs the path and not the subtree.

/// The shape of a tree; the root is the last node.
pub(crate) struct Links {
    parent: Vec<u32>,
    next: Vec<u32>,
    previous: Vec<u32>,
    /// Nodes of the subtree, its top included.
    size: Vec<u32>,
    /// Last node of the subtree in the order.
    last: Vec<u32>,
}

impl Links {
    /// `nodes` and a root, to be given parents and an order.
    pub(crate) fn new(nodes: usize) -> Self {
        let blank = vec![nodes as u32; nodes + 1];
        let size = vec![1; nodes + 1];
        Self { parent: blank.clone(), next: blank.clone(), previous: blank.clone(), size, last: blank }
    }

    pub(crate) fn set_parent(&mut self, node: usize, parent: usize) {
        self.parent[node] = parent as u32;
    }

    /// Takes over a preorder of all nodes, the root first.
    pub(crate) fn order(&mut self, order: &[u32]) {
        for (k, &node) in order.iter().enumerate() {
            let next = order[(k + 1) % order.len()];
            self.next[node as usize] = next;
            self.previous[next as usize] = node;
            self.last[node as usize] = node;
        }
        for &node in order[1..].iter().rev() {
            let (node, parent) = (node as usize, self.parent[node as usize] as usize);
            self.size[parent] += self.size[node];
            // The first child met in this direction is the last one.
            if self.last[parent] as usize == parent {
                self.last[parent] = self.last[node];
            }
        }
    }

    #[inline]
    pub(crate) fn parent(&self, node: usize) -> usize {
        self.parent[node] as usize
    }

    /// The node after this one in the ring.
    #[inline]
    pub(crate) fn next(&self, node: usize) -> usize {
        self.next[node] as usize
    }

    /// Nodes of the subtree.
    #[inline]
    pub(crate) fn size(&self, node: usize) -> u32 {
        self.size[node]
    }

    /// The node after the subtree in the ring.
    pub(crate) fn after(&self, node: usize) -> usize {
        self.next[self.last[node] as usize] as usize
    }

    /// Lowest common ancestor.
    pub(crate) fn apex(&self, mut a: usize, mut b: usize) -> usize {
        while a != b {
            // Of two nodes of one size neither is above the other.
            if self.size[a] <= self.size[b] {
                a = self.parent[a] as usize;
            } else {
                b = self.parent[b] as usize;
            }
        }
        a
    }

    /// Makes `inner` the top of the subtree under `top` and a child of `outer`, which is outside; `apex` is above `top`
    /// and `outer`.
    pub(crate) fn rehang(&mut self, inner: usize, outer: usize, top: usize, apex: usize) {
        let size = self.size[top];
        self.cut(top, apex);
        let tail = self.turn(inner, top, size);
        self.insert(inner, tail, outer, apex, size);
    }

    /// Takes the run of `top` out of the ring and off its ancestors.
    fn cut(&mut self, top: usize, apex: usize) {
        let (before, end, size) = (self.previous[top], self.last[top], self.size[top]);
        self.join(before, self.next[end as usize]);
        let mut node = self.parent[top] as usize;
        let mut ancestor = node;
        while self.last[ancestor] == end {
            self.last[ancestor] = before;
            let above = self.parent[ancestor] as usize;
            if above == ancestor {
                break;
            }
            ancestor = above;
        }
        while node != apex {
            self.size[node] -= size;
            node = self.parent[node] as usize;
        }
    }

    /// Turns the run of `top` into one that starts at `inner`; its last node. The run of `inner` comes first, then, node
    /// by node up the path, what that node has besides: the part of its run before the child on the path and the part
    /// after it.
    fn turn(&mut self, inner: usize, top: usize, size: u32) -> u32 {
        let (mut before, mut end, mut below) = (self.previous[inner], self.last[inner], self.size[inner]);
        let (mut after, mut tail) = (self.next[end as usize], end);
        let (mut child, mut node) = (inner, self.parent[inner] as usize);
        self.size[inner] = size;
        while child != top {
            let above = self.parent[node] as usize;
            let (own_before, own_end, own_size) = (self.previous[node], self.last[node], self.size[node]);
            // Where both runs end together, the successor has been overwritten already.
            let own_after = if own_end == end { after } else { self.next[own_end as usize] };
            self.join(tail, node as u32);
            tail = before;
            if own_end != end {
                self.join(tail, after);
                tail = own_end;
            }
            (self.parent[node], self.size[node]) = (child as u32, size - below);
            (before, end, after, below) = (own_before, own_end, own_after, own_size);
            (child, node) = (node, above);
        }
        // Every node of the path now ends where the run ends.
        while child != inner {
            self.last[child] = tail;
            child = self.parent[child] as usize;
        }
        self.last[inner] = tail;
        tail
    }

    /// Lets the run from `inner` to `tail` into the ring as the first subtree of `outer`.
    fn insert(&mut self, inner: usize, tail: u32, outer: usize, apex: usize, size: u32) {
        let end = outer as u32;
        self.join(tail, self.next[outer]);
        self.join(end, inner as u32);
        self.parent[inner] = end;
        let mut ancestor = outer;
        while self.last[ancestor] == end {
            self.last[ancestor] = tail;
            let above = self.parent[ancestor] as usize;
            if above == ancestor {
                break;
            }
            ancestor = above;
        }
        let mut node = outer;
        while node != apex {
            self.size[node] += size;
            node = self.parent[node] as usize;
        }
    }

    fn join(&mut self, node: u32, next: u32) {
        self.next[node as usize] = next;
        self.previous[next as usize] = node;
    }

    /// Whether the order is a preorder of the parents, and sizes and ends are right.
    #[cfg(test)]
    pub(crate) fn is_sound(&self) -> bool {
        let root = self.parent.len() - 1;
        let (mut order, mut node) = (vec![root], self.next(root));
        while node != root {
            order.push(node);
            node = self.next(node);
        }
        let is_below = |mut node: usize, top: usize| {
            while node != top && node != root {
                node = self.parent(node);
            }
            node == top
        };
        let run = |k: usize| order[k..].iter().take_while(|&&node| is_below(node, order[k])).count();
        let below = |top: usize| order.iter().filter(|&&node| is_below(node, top)).count();
        order.len() == self.parent.len()
            && (0..order.len()).all(|k| {
                let (node, run) = (order[k], run(k));
                let linked = self.previous[self.next(node)] as usize == node;
                linked
                    && run == below(node)
                    && run == self.size[node] as usize
                    && self.last[node] as usize == order[k + run - 1]
            })
    }
}
