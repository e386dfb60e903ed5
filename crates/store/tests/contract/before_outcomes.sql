-- What a store of schema version 4 wrote, before there were outcomes: two projects made, one of them deleted again.

CREATE TABLE migrations (version BIGINT NOT NULL PRIMARY KEY, checksum TEXT NOT NULL);
INSERT INTO migrations VALUES(1,'a2f67f88880aa401506cf05dc6179115e51ba03ff79a7d7a0ffe503efa9a1697');
INSERT INTO migrations VALUES(2,'3b2d90cf427bf165875277db2f98c22b068573a6670195059fadca7b8acbf504');
INSERT INTO migrations VALUES(3,'465ee488e3738d1febd7bb89e698a3d04a78ac7c28fe8d300fa4c0a48e794f91');
INSERT INTO migrations VALUES(4,'f8c0f17d9539d415870ac1c4034e89ec258c500dc69013926625631cfddb9efe');
INSERT INTO journal VALUES(1,'default','2026-01-01T00:00:00.123Z','ada','127.0.0.1','project.create','req_1','it''s new','[{"kind":"project","key":"a","body":"{\"name\":\"a\",\"createdAt\":\"2026-01-01T00:00:00Z\"}"}]','0000000000000000000000000000000000000000000000000000000000000000','1836409b2deb9eed906ad515d42e82646d9304cf3bbf96030a7711633a6fa417');
INSERT INTO journal VALUES(2,'default','2026-01-01T00:00:01Z','ada','127.0.0.1','project.create','req_1','','[{"kind":"project","key":"b","body":"{\"name\":\"b\",\"createdAt\":\"2026-01-01T00:00:00Z\"}"},{"kind":"project","key":"a","body":"{\"name\":\"a\",\"createdAt\":\"2026-01-01T00:00:00Z\"}"}]','1836409b2deb9eed906ad515d42e82646d9304cf3bbf96030a7711633a6fa417','aa044b267a68657c4c90c7f800353dfbf5994a52a109cf3af6f996a49f46108e');
INSERT INTO journal VALUES(3,'default','2026-01-01T00:00:02.5Z','ada','127.0.0.1','project.delete','req_1','','[{"kind":"project","key":"a","body":null}]','aa044b267a68657c4c90c7f800353dfbf5994a52a109cf3af6f996a49f46108e','668d7ae26abb54632fa356053f73de286ea1be18178bb64f9221be951cbdff7f');
INSERT INTO journal_objects VALUES('default','project','a',1);
INSERT INTO journal_objects VALUES('default','project','b',2);
INSERT INTO journal_objects VALUES('default','project','a',2);
INSERT INTO journal_objects VALUES('default','project','a',3);
INSERT INTO objects VALUES('default','project','b',2,'{"name":"b","createdAt":"2026-01-01T00:00:00Z"}');
UPDATE head SET seq = 3, hash = '668d7ae26abb54632fa356053f73de286ea1be18178bb64f9221be951cbdff7f';
