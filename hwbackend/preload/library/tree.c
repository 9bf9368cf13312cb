#include "tree.h"

static int order(uint64_t major, uint64_t minor, const struct node *node)
{
    if (major != node->major)
        return major < node->major ? -1 : 1;
    return minor < node->minor ? -1 : minor > node->minor;
}

/* Weights follow from the keys (splitmix64), so that a tree's shape is the same in every run. */
static uint32_t weight_of(uint64_t major, uint64_t minor)
{
    uint64_t mixed = major * 0x9e3779b97f4a7c15u + minor;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return (uint32_t)(mixed ^ (mixed >> 31));
}

static void split(struct node *from, uint64_t major, uint64_t minor, struct node **below,
                  struct node **above)
{
    while (from != NULL) {
        if (order(major, minor, from) > 0) {
            *below = from;
            below = &from->right;
            from = from->right;
        } else {
            *above = from;
            above = &from->left;
            from = from->left;
        }
    }
    *below = *above = NULL;
}

void tree_put(struct tree *tree, struct node *node, uint64_t major, uint64_t minor)
{
    node->major = major;
    node->minor = minor;
    node->weight = weight_of(major, minor);
    struct node **link = &tree->root;
    while (*link != NULL && (*link)->weight >= node->weight)
        link = order(major, minor, *link) < 0 ? &(*link)->left : &(*link)->right;
    split(*link, major, minor, &node->left, &node->right);
    *link = node;
}

void tree_take(struct tree *tree, struct node *node)
{
    struct node **link = &tree->root;
    while (*link != node)
        link = order(node->major, node->minor, *link) < 0 ? &(*link)->left : &(*link)->right;
    struct node *left = node->left, *right = node->right;
    while (left != NULL && right != NULL) {
        if (left->weight >= right->weight) {
            *link = left;
            link = &left->right;
            left = left->right;
        } else {
            *link = right;
            link = &right->left;
            right = right->left;
        }
    }
    *link = left != NULL ? left : right;
    node->left = node->right = NULL;
}

struct node *tree_at_least(const struct tree *tree, uint64_t major, uint64_t minor)
{
    struct node *found = NULL;
    for (struct node *node = tree->root; node != NULL;) {
        if (order(major, minor, node) <= 0) {
            found = node;
            node = node->left;
        } else {
            node = node->right;
        }
    }
    return found;
}

struct node *tree_at_most(const struct tree *tree, uint64_t major, uint64_t minor)
{
    struct node *found = NULL;
    for (struct node *node = tree->root; node != NULL;) {
        if (order(major, minor, node) >= 0) {
            found = node;
            node = node->right;
        } else {
            node = node->left;
        }
    }
    return found;
}
