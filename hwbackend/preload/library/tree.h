/* Tree: things in the order of a pair of numbers (a treap; its owner holds the lock).

   A node lives inside what it orders, so nothing here allocates. */
#ifndef VSIM_PRELOAD_TREE_H
#define VSIM_PRELOAD_TREE_H

#include <stddef.h>
#include <stdint.h>

struct node {
    struct node *left, *right;
    uint64_t major, minor; /* the key; unique in a tree */
    uint32_t weight;
};
struct tree {
    struct node *root;
};

#define HOLDER(node, type, member) ((type *)(void *)((char *)(node)-offsetof(type, member)))

void tree_put(struct tree *tree, struct node *node, uint64_t major, uint64_t minor);
void tree_take(struct tree *tree, struct node *node);

/* The first node at or above a key, the last at or below it; NULL for none. */
struct node *tree_at_least(const struct tree *tree, uint64_t major, uint64_t minor);
struct node *tree_at_most(const struct tree *tree, uint64_t major, uint64_t minor);

#endif
