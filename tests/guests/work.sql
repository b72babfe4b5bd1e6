-- Inserts, an index, joins, grouping, updates and text functions in memory. Parameter :rows is the table's size.
CREATE TABLE item(id INTEGER PRIMARY KEY, kind INTEGER, price REAL, name TEXT);
CREATE TABLE kind(id INTEGER PRIMARY KEY, label TEXT);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100)
INSERT INTO kind SELECT i, 'kind ' || substr('abcdefghij', 1 + i % 10, 3) FROM n;
WITH RECURSIVE n(i, x) AS (SELECT 1, 42 UNION ALL SELECT i + 1, (x * 1103515245 + 12345) % 2147483648 FROM n WHERE i < :rows)
INSERT INTO item SELECT i, 1 + x / 7 % 100, x % 10000 / 100.0, printf('item-%08x', x) FROM n;
CREATE INDEX by_kind ON item(kind, price);
SELECT label, count(*), round(sum(price), 2), max(name) FROM item JOIN kind ON kind.id = item.kind
  GROUP BY label ORDER BY 3 DESC LIMIT 5;
SELECT count(*) FROM item WHERE name LIKE '%f0%' AND upper(name) GLOB '*[0-4]';
UPDATE item SET price = price * 1.1 WHERE kind % 3 = 0;
DELETE FROM item WHERE id % 11 = 0;
SELECT kind, avg(price), min(length(name)) FROM item GROUP BY kind HAVING count(*) > 5 ORDER BY 2 DESC LIMIT 5;
SELECT a.kind, count(*) FROM item a JOIN item b ON b.id = a.id + 1 AND b.price > a.price GROUP BY a.kind ORDER BY 2, 1 LIMIT 3;
PRAGMA integrity_check;
