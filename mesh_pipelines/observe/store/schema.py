"""The tables of ``history.db``.

Two kinds: what the product's tables say again in a form that pages can be made from (a cache, dropped and read anew
when its form changes), and what nobody else knows (samples, objectives, incidents, messages, contracts as they were),
which only grows columns. Times are microseconds since 1970, days are ``date.toordinal``. Names are stored once: a year
of a thousand products with five rules is two million rows of numbers.

Totals of the whole mesh are kept as a product without a name: summing a thousand products takes longer than a page may.
"""

from __future__ import annotations

VERSION = 2
# The product whose days are the sums over all others.
MESH = 0

OWN = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lease (name TEXT PRIMARY KEY, holder TEXT NOT NULL, until INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS products (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
INSERT OR IGNORE INTO products VALUES (0, '');
CREATE TABLE IF NOT EXISTS memories (product INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS current (product INTEGER PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS product_days (
    product INTEGER, day INTEGER, evaluated INTEGER NOT NULL, passed INTEGER NOT NULL, warned INTEGER NOT NULL,
    failed INTEGER NOT NULL, audits INTEGER NOT NULL, blocked INTEGER NOT NULL, published INTEGER NOT NULL,
    landed_rows INTEGER NOT NULL, quarantined INTEGER NOT NULL, PRIMARY KEY (product, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS samples (
    series INTEGER, at INTEGER, value REAL NOT NULL, PRIMARY KEY (series, at)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS measure_days (
    series INTEGER, day INTEGER, n INTEGER NOT NULL, minimum REAL NOT NULL, maximum REAL NOT NULL, total REAL NOT NULL,
    last REAL NOT NULL, PRIMARY KEY (series, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objectives (
    id INTEGER PRIMARY KEY, product INTEGER NOT NULL, name TEXT NOT NULL, body TEXT, UNIQUE (product, name)
);
CREATE TABLE IF NOT EXISTS objective_days (
    objective INTEGER, day INTEGER, good INTEGER NOT NULL, total INTEGER NOT NULL, PRIMARY KEY (objective, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS objective_slots (
    objective INTEGER, slot INTEGER, good INTEGER NOT NULL, total INTEGER NOT NULL, PRIMARY KEY (objective, slot)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS incidents (
    id INTEGER PRIMARY KEY AUTOINCREMENT, product INTEGER NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
    title TEXT NOT NULL, detail TEXT NOT NULL, severity TEXT NOT NULL, began_at INTEGER NOT NULL,
    opened_at INTEGER NOT NULL, closed_at INTEGER, version INTEGER, run TEXT, acknowledged_by TEXT,
    acknowledged_at INTEGER, note TEXT, told_at INTEGER
);
CREATE INDEX IF NOT EXISTS incidents_of ON incidents (product, opened_at);
CREATE INDEX IF NOT EXISTS incidents_by_time ON incidents (opened_at);
CREATE INDEX IF NOT EXISTS incidents_open ON incidents (product) WHERE closed_at IS NULL;
CREATE INDEX IF NOT EXISTS incidents_closed ON incidents (closed_at) WHERE closed_at IS NOT NULL;
CREATE TABLE IF NOT EXISTS deliveries (
    incident INTEGER, channel TEXT, said TEXT, said_at INTEGER, tries INTEGER NOT NULL, next_try INTEGER, problem TEXT,
    PRIMARY KEY (incident, channel)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revisions (
    product INTEGER, hash TEXT, version TEXT NOT NULL, seen_at INTEGER NOT NULL, document TEXT NOT NULL,
    PRIMARY KEY (product, hash)
) WITHOUT ROWID;
"""

CACHE = """
CREATE TABLE IF NOT EXISTS audits (
    product INTEGER, at INTEGER, candidate TEXT, PRIMARY KEY (product, at, candidate)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rules (
    id INTEGER PRIMARY KEY, product INTEGER NOT NULL, rule TEXT NOT NULL, "check" TEXT NOT NULL,
    dimension TEXT NOT NULL, on_failure TEXT NOT NULL, UNIQUE (product, rule, "check", dimension, on_failure)
);
CREATE TABLE IF NOT EXISTS rule_days (
    rule INTEGER, day INTEGER, evaluated INTEGER NOT NULL, passed INTEGER NOT NULL, warned INTEGER NOT NULL,
    failed INTEGER NOT NULL, errors INTEGER NOT NULL, vacuous INTEGER NOT NULL, rows INTEGER NOT NULL,
    bad INTEGER NOT NULL, PRIMARY KEY (rule, day)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dimension_days (
    product INTEGER, dimension TEXT, day INTEGER, evaluated INTEGER NOT NULL, passed INTEGER NOT NULL,
    PRIMARY KEY (product, day, dimension)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rule_states (
    product INTEGER, rule TEXT, place INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (product, rule)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS publications (
    product INTEGER, version INTEGER, at INTEGER NOT NULL, rows INTEGER NOT NULL, new_rows INTEGER, seconds REAL,
    quarantined INTEGER NOT NULL, run TEXT, anomalous INTEGER NOT NULL, PRIMARY KEY (product, version)
) WITHOUT ROWID;
"""

# A cache of another form is dropped, what was counted from it set back to be counted again, and what it was quoted in
# left out: what is still open says it again at the next look.
FORGET = """
DROP TABLE IF EXISTS audits; DROP TABLE IF EXISTS rules; DROP TABLE IF EXISTS rule_days;
DROP TABLE IF EXISTS dimension_days; DROP TABLE IF EXISTS rule_states; DROP TABLE IF EXISTS publications;
UPDATE product_days SET evaluated = 0, passed = 0, warned = 0, failed = 0, audits = 0, blocked = 0, published = 0;
UPDATE incidents SET detail = '';
"""
