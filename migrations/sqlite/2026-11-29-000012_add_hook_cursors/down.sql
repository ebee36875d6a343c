DROP TABLE hook_cursors;
