"""LRU as a user writes it: what vsim's own must equal."""

LRU = """
    class Lru:
        def __init__(self, capacity):
            self.pages = {}
        def insert(self, page):
            self.pages[page] = None
        def touch(self, page):
            self.pages[page] = self.pages.pop(page)
        release = touch
        def remove(self, page):
            del self.pages[page]
        def victim(self, evictable):
            for page in self.pages:
                if evictable(page):
                    del self.pages[page]
                    return page
            return -1
"""
