-- A catalogue as schema 2 left it (SQLite): clips 1 and 2 of car-1 stored, 3 under way, 4 given up.
BEGIN TRANSACTION;
CREATE TABLE access_log (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	wall_ns BIGINT NOT NULL,
	who TEXT NOT NULL,
	action TEXT NOT NULL,
	vehicle TEXT,
	detail TEXT NOT NULL
);
CREATE TABLE campaign_reports (
	vehicle TEXT NOT NULL,
	received_wall_ns BIGINT NOT NULL,
	report TEXT NOT NULL,
	PRIMARY KEY (vehicle)
);
CREATE TABLE clip_labels (
	vehicle TEXT NOT NULL,
	n BIGINT NOT NULL,
	sha256 TEXT NOT NULL,
	kind TEXT NOT NULL,
	name TEXT NOT NULL,
	PRIMARY KEY (vehicle, n, sha256, kind, name),
	FOREIGN KEY(vehicle, n, sha256) REFERENCES clips (vehicle, n, sha256) ON DELETE CASCADE
);
INSERT INTO "clip_labels" VALUES('car-1',1,'7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed','rule','cut_in');
CREATE TABLE clips (
	vehicle TEXT NOT NULL,
	n BIGINT NOT NULL,
	sha256 TEXT NOT NULL,
	size_bytes BIGINT NOT NULL,
	priority TEXT NOT NULL,
	metadata TEXT NOT NULL,
	path TEXT NOT NULL,
	received_wall_ns BIGINT NOT NULL,
	verified INTEGER,
	problems TEXT DEFAULT '' NOT NULL,
	verifying_until_wall_ns BIGINT DEFAULT '0' NOT NULL,
	start_wall_ns BIGINT,
	end_wall_ns BIGINT,
	kind TEXT,
	model TEXT,
	software_version TEXT,
	PRIMARY KEY (vehicle, n, sha256)
);
INSERT INTO "clips" VALUES('car-1',1,'7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed',3,'normal','{"rules": ["cut_in"]}','clips/car-1/2023-11-14/000000000001-7692c3ad3540bb80-1.mcap',1700000000000000000,NULL,'',0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "clips" VALUES('car-1',2,'3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3',3,'normal','{}','clips/car-1/2023-11-14/000000000002-3fc4ccfe745870e2-2.mcap',1700000000000000001,NULL,'',0,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE deletions (
	name TEXT NOT NULL,
	due_wall_ns BIGINT NOT NULL,
	PRIMARY KEY (name, due_wall_ns)
);
CREATE TABLE erasures (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	vehicle TEXT NOT NULL,
	from_wall_ns BIGINT NOT NULL,
	to_wall_ns BIGINT NOT NULL,
	ordered_wall_ns BIGINT NOT NULL
);
CREATE TABLE partials (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
	vehicle TEXT NOT NULL,
	n BIGINT NOT NULL,
	sha256 TEXT NOT NULL,
	size_bytes BIGINT NOT NULL,
	priority TEXT NOT NULL,
	metadata TEXT NOT NULL,
	ranges TEXT NOT NULL,
	final_path TEXT,
	touched_wall_ns BIGINT NOT NULL,
	UNIQUE (vehicle, n, sha256)
);
INSERT INTO "partials" VALUES(3,'car-1',3,'8b5b9db0c13db24256c829aa364aa90c6d2eba318b9232a4ab9313b954d3555f',5,'normal','{}','[]',NULL,1700000000000000000);
CREATE TABLE pulls (
	id TEXT NOT NULL,
	vehicle TEXT NOT NULL,
	cameras TEXT NOT NULL,
	start_ns BIGINT NOT NULL,
	end_ns BIGINT NOT NULL,
	clock TEXT NOT NULL,
	priority TEXT NOT NULL,
	asked_wall_ns BIGINT NOT NULL,
	expires_wall_ns BIGINT NOT NULL,
	state TEXT DEFAULT 'pending' NOT NULL,
	reason TEXT DEFAULT '' NOT NULL,
	n BIGINT DEFAULT '0' NOT NULL,
	answered_wall_ns BIGINT,
	PRIMARY KEY (id)
);
CREATE TABLE removed (
	vehicle TEXT NOT NULL,
	n BIGINT NOT NULL,
	sha256 TEXT NOT NULL,
	reason TEXT NOT NULL,
	wall_ns BIGINT NOT NULL,
	PRIMARY KEY (vehicle, n, sha256)
);
CREATE TABLE schema_version (
	version INTEGER NOT NULL,
	PRIMARY KEY (version)
);
INSERT INTO "schema_version" VALUES(2);
CREATE TABLE segments (
	name TEXT NOT NULL,
	partial INTEGER NOT NULL,
	start BIGINT NOT NULL,
	"end" BIGINT NOT NULL,
	PRIMARY KEY (name),
	FOREIGN KEY(partial) REFERENCES partials (id) ON DELETE CASCADE
);
CREATE TABLE tombstones (
	vehicle TEXT NOT NULL,
	n BIGINT NOT NULL,
	reason TEXT NOT NULL,
	wall_ns BIGINT NOT NULL,
	PRIMARY KEY (vehicle, n)
);
INSERT INTO "tombstones" VALUES('car-1',4,'given up',1700000000000000000);
CREATE TABLE vehicles (
	vehicle TEXT NOT NULL,
	PRIMARY KEY (vehicle)
);
INSERT INTO "vehicles" VALUES('car-1');
CREATE INDEX clips_by_arrival ON clips (received_wall_ns);
CREATE INDEX clips_by_size ON clips (vehicle, size_bytes);
CREATE INDEX clips_to_verify ON clips (received_wall_ns) WHERE verified IS NULL;
CREATE INDEX clips_by_time ON clips (start_wall_ns);
CREATE INDEX ix_erasures_vehicle ON erasures (vehicle);
CREATE INDEX deletions_by_time ON deletions (due_wall_ns);
CREATE INDEX access_by_time ON access_log (wall_ns);
CREATE INDEX pulls_by_vehicle ON pulls (vehicle, state);
CREATE INDEX labels_by_name ON clip_labels (kind, name);
CREATE INDEX segments_of_partial ON segments (partial);
CREATE TRIGGER access_log_no_update BEFORE update ON access_log BEGIN SELECT RAISE(ABORT, 'the access log is append-only'); END;
CREATE TRIGGER access_log_no_delete BEFORE delete ON access_log BEGIN SELECT RAISE(ABORT, 'the access log is append-only'); END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('partials',3);
COMMIT;
