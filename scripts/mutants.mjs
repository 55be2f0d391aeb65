/**
 * `npm run mutants`: breaks the drain code of both protocols, one line at a time, in a copy of the tree, and demands
 * that a short simulation or the tests that are named here notice each of the breaks. A break whose line is no longer in
 * the source fails: then it has to be written anew. `--only WORDS`: those whose name contains them.
 */
import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { prepare, root } from './prepare.mjs';

const USAGE = 'Usage: npm run mutants [-- --only WORDS]   those whose name contains the words';

const SCHEDULES = 2_500;

/** What a check may take at most, in ms; a break may also make it hang. */
const PATIENCE = 60_000;

const H2 = simulation('h2');
const H1 = simulation('h1');
const H1_TESTS = tests('test/h1/drain.test.ts', 'test/h1/pipelining.test.ts', 'test/h1/linger.test.ts');
const H1_UNREAD = tests('test/h1/unread.test.ts');
const H1_BACKLOG = tests('test/h1/backlog.test.ts');
const H2_TESTS = tests('test/h2-connection/drain.test.ts');
const H2_READING = tests('test/h2-connection/reading.test.ts');
const H2_UNSEEN = tests('test/h2-connection/unseen.test.ts');
const H2_FIELDS = tests('test/h2/fields.test.ts');
const TURNS = tests('test/core/turns.test.ts');
const LARGE_ANSWERS = tests('test/server/large-answers.test.ts');
const SURFACE = tests('test/server/surface.test.ts');
const BODIES = tests('test/server/bodies.test.ts');
const HANDLERS = tests('test/server/handlers.test.ts');
const H2_RESPONSE = tests('test/h2-connection/response.test.ts');
const STOPPING = someTests('test/server/shutdown.test.ts', 'listen.* again|outlives|undefined');
const TLS = someTests('test/server/tls.test.ts', 'setSecureContext');
const OPERATOR = someTests('test/ops/operator.test.ts', 'cluster|progress');

const SHUTDOWN = 'src/core/shutdown.ts';
const TIMING = 'src/core/timing.ts';
const LINGER = 'src/core/linger.ts';
const H2_DRAIN = 'src/h2/drain.ts';
const H1_CONNECTION = 'src/h1/connection.ts';
const PIPELINE = 'src/h1/pipeline.ts';

/** Each: what is broken, where, the line as it is, the line instead, and who has to notice. */
const MUTANTS = [
  ['h2: commits before it has settled', H2_DRAIN, 'this.#settled = resolve;', 'resolve();', H2],
  ['h2: commits on the ACK', H2_DRAIN, 'ackedAt + Math.max(GRACE, grace)', 'ackedAt', H2],
  [
    'h2: announces before the requests that wait for our SETTINGS have come',
    H2_DRAIN,
    'return Math.min(settingsAckedAt + GRACE, lastMoment);',
    'return 0;',
    H2_TESTS,
  ],
  ['h2: settle never runs out', H2_DRAIN, '+ terms.settle :', '+ Number.MAX_SAFE_INTEGER :', H2],
  [
    'h2: settles without a look at the clock',
    H2_DRAIN,
    'if (now() < until) {',
    'if (until < 0) {',
    [...H2, ...H2_TESTS],
  ],
  [
    'h2: settles in the middle of a request head',
    H2_DRAIN,
    'session.midRequest ? latest : ',
    '',
    someTests('test/h2-connection/drain.test.ts', 'waits for the rest'),
  ],
  [
    'h2: a request of which a part of the header of a frame has come is not seen to come',
    'src/h2/receive.ts',
    'return this.midBlock || (this.#at === At.FrameHeader && this.#carried > 0);',
    'return this.midBlock;',
    someTests('test/h2-connection/drain.test.ts', 'header of a frame'),
  ],
  [
    'h2: settles as soon as the rest of a request has come',
    H2_DRAIN,
    'Math.min(this.#headCameAt + GRACE, latest)',
    '0',
    someTests('test/h2-connection/drain.test.ts', 'waits for the rest'),
  ],
  [
    'h2: whatever comes in pieces puts off the final GOAWAY',
    H2_DRAIN,
    'if (isRequest) this.#headCameAt',
    'this.#headCameAt',
    H2,
  ],
  [
    'h2: nobody looks again once the rest of a request has come',
    'src/h2/connection.ts',
    'if (midRequest && !session.midRequest) this.#drain.restCame(session.highestStreamId > highestStreamId);',
    '',
    someTests('test/h2-connection/drain.test.ts', 'waits for the rest'),
  ],
  [
    'h2: settles with bytes that are received and not read',
    H2_DRAIN,
    'if (this.#unread() && !this.#over) this.#holdUp(now());',
    'if (this.#over) this.#holdUp(now());',
    someTests('test/h2-connection/drain.test.ts', 'has been read'),
  ],
  [
    'h2: what was never taken has waited since the process began',
    'src/h2/deadlines.ts',
    'peerHasRead || !this.#waited || waiting === 0',
    'peerHasRead || waiting === 0',
    someTests('test/server/protocols.test.ts', 'has taken nothing yet'),
  ],
  [
    'h2: times run on for a peer that has left',
    'src/h2/connection.ts',
    'longer.\n    this.#deadlines.stop();',
    'longer.',
    someTests('test/h2-connection/deadlines.test.ts', 'whose end came'),
  ],
  [
    'h2: a peer that answers no PING is sent more and more of them',
    'src/h2/deadlines.ts',
    'this.#pinged === undefined || this.#pinged.ackedAt !== undefined',
    'this.#pinged === undefined || this.#unansweredAt === Infinity',
    someTests('test/h2-connection/deadlines.test.ts', 'no second time'),
  ],
  [
    'h2: whoever sends without end is never told the final GOAWAY',
    H2_DRAIN,
    'return this.#heldUpFor < most ?',
    'return this.#heldUpFor >= 0 ?',
    someTests('test/h2-connection/drain.test.ts', 'without end'),
  ],
  [
    'h2: settles with bytes that are received and not read, if handlers take long',
    H2_DRAIN,
    'this.#heldUpFor += Math.min(GRACE, at - this.#heldUpAt);',
    'this.#heldUpFor += at - Math.max(0, this.#heldUpAt);',
    someTests('test/h2-connection/drain.test.ts', 'longer than all of'),
  ],
  [
    'h2: the FIN overtakes requests that wait for their turn',
    'src/h2/reading.ts',
    'if (this.#rest === undefined) this.#reader.peerEnded();',
    'this.#reader.peerEnded();',
    H2_READING,
  ],
  [
    'h2: one connection takes as much of a turn as it wants',
    'src/h2/reading.ts',
    'return this.#used >= SLICE;',
    'return false;',
    H2_READING,
  ],
  ['h2: every TLS record has a share of its own', 'src/h2/session.ts', 'pace.spent();', '', H2_READING],
  [
    'h2: requests that are reset at once reach the application',
    'src/h2/requests.ts',
    'if (stream !== this.#last) (stream',
    'this.handOver();\n    if (by !== undefined) (stream',
    H2_UNSEEN,
  ],
  [
    'h2: a connection error takes along the request before it',
    'src/h2/lifecycle.ts',
    'this.handler.handOver?.();',
    '',
    H2_UNSEEN,
  ],
  [
    'h2: the last handler of a read takes its time from the others',
    'src/h2/session.ts',
    'life.handler.handOver?.();\n    pace.spent();',
    'pace.spent();\n    life.handler.handOver?.();',
    H2_READING,
  ],
  [
    'h2: a request that the application never got is not counted when its connection ends',
    'src/h2/requests.ts',
    "if (fate === 'aborted') this.connection.aborted(method, path, openedAt);",
    "if (fate === 'aborted') this.connection.aborted(path, method, openedAt);",
    H2_UNSEEN,
  ],
  ['h2: a cut in a handler lets the next request in', H2_DRAIN, 'this.#on.refuseLast();', '', H2_UNSEEN],
  [
    'h2: an answer to HEAD is over with its head',
    'src/h2/send.ts',
    "(rest === 'said' && stream.withoutBody)",
    'stream.withoutBody',
    H2_RESPONSE,
  ],
  [
    'h2: an upload that is answered and stopped counts as a rapid reset',
    'src/h2/inbound.ts',
    'if (isAnswered) life.spend(1);',
    'if (openedAt < 0) life.spend(1);',
    tests('test/h2/guard.test.ts'),
  ],
  [
    'h2: a priority of any length is read',
    'src/h2/priority.ts',
    'LONGEST_PRIORITY = 256;',
    'LONGEST_PRIORITY = 1_000_000;',
    tests('test/h2/priority.test.ts'),
  ],
  [
    'h2: a handler that asks for no body has its client reset',
    'src/h2/deadlines.ts',
    '!(user.awaitsContinue && ',
    '!(stream.tunnel && ',
    someTests('test/h2-connection/deadlines.test.ts', '100-continue'),
  ],
  [
    'h2: an answer is cut that waits for its share of the window of the connection',
    'src/h2/deadlines.ts',
    'Math.max(seen.blockedAt, this.#dataSentAt)',
    'seen.blockedAt',
    someTests('test/h2-connection/deadlines.test.ts', 'its share'),
  ],
  [
    'h2: an answer is cut whose window has come and is not read yet',
    'src/h2/deadlines.ts',
    'this.#connection.reads && stream.queuedBytes',
    'stream.queuedBytes',
    someTests('test/h2-connection/deadlines.test.ts', 'yet to be read'),
  ],
  [
    'h2: what was seen before the loop stood still is held against clients',
    'src/h2/deadlines.ts',
    'seen.awaitedAt = awaited ? Math.min(seen.awaitedAt, at) : Infinity;',
    'seen.awaitedAt = Math.min(seen.awaitedAt, at);',
    someTests('test/h2-connection/deadlines.test.ts', 'stood still'),
  ],
  [
    'h2: answers are cut before their time',
    'src/h2/deadlines.ts',
    'seen.blockedAt = blocked ? Math.min(seen.blockedAt, at) : Infinity;',
    'seen.blockedAt = blocked ? Math.min(seen.blockedAt, at - this.#period()) : Infinity;',
    someTests('test/h2-connection/deadlines.test.ts', 'never shorter'),
  ],
  [
    'h2: a stream without a window lives for as long as others are sent',
    'src/h2/deadlines.ts',
    'if (blocked && !isClosed)',
    'if (blocked)',
    someTests('test/h2-connection/deadlines.test.ts', 'without a window'),
  ],
  [
    'h2: a peer to which much is on its way is taken for gone',
    'src/h2/deadlines.ts',
    'if (bytesRead !== this.#bytesRead || peerHasRead) {',
    'if (bytesRead !== this.#bytesRead) {',
    someTests('test/h2-connection/deadlines.test.ts', 'so much'),
  ],
  [
    'h1: what was seen before the loop stood still is held against clients',
    'src/h1/timeouts.ts',
    ' || !this.#awaitedBytes) {',
    ') {',
    someTests('test/h1/timeouts.test.ts', 'stood still'),
  ],
  [
    'h2: heads that are cut up by reads are one head',
    'src/h2/deadlines.ts',
    'this.#headSince === 0 || this.#headBehind !== highestStreamId',
    'this.#headSince === 0',
    someTests('test/h2-connection/deadlines.test.ts', 'anew'),
  ],
  [
    'h1: a head that says close is sent ahead of its body',
    H1_CONNECTION,
    'process.nextTick(sendLoneHead, res);',
    'sendHead(res);',
    someTests('test/h1/mark.test.ts', 'no byte'),
  ],
  [
    'h1: fields that were set are checked once more',
    'src/h1/mark.ts',
    'if (!Array.isArray(headers) && rawHeaderNames(res).length > 0) {',
    'if (!Array.isArray(headers) && rawHeaderNames(res).length > 1e9) {',
    someTests('test/h1/mark.test.ts', 'no byte'),
  ],
  [
    'h1: large requests wait in memory, however many',
    PIPELINE,
    'bytesRead - waiting.bytesBefore > MOST_BYTES',
    'bytesRead < 0',
    someTests('test/h1/backlog.test.ts', 'much more than a read'),
  ],
  [
    'h1: a refusal of the application overtakes the answers before it',
    H1_CONNECTION,
    '(isNow || !this.answering) && refusal.tell()',
    'refusal.tell()',
    someTests('test/h1/malformed.test.ts', 'everything before it'),
  ],
  [
    'a server that listens again after a signal is not shut down again',
    'src/ops/signals.ts',
    "this.#server.on?.('listening', again);",
    '',
    someTests('test/ops/signals.test.ts', 'listens again'),
  ],
  [
    'an answer that a reset follows at once counts as aborted',
    'src/socket-internals.ts',
    'if (writeQueueSize !== 0 || ',
    'if (writeQueueSize !== -1 || ',
    tests('test/server/reset-behind-answer.test.ts'),
  ],
  [
    'an answer of which a slice was written when a reset came counts as served',
    'src/h1/writes.ts',
    'return (socket as unknown as Vector)[kSliced]?.isWhole ?? true;',
    'return true;',
    tests('test/server/reset-behind-answer.test.ts'),
  ],
  [
    'all handshakes begin in the turn that they come in',
    'src/handshake.ts',
    'beginnings.do(() => {',
    'process.nextTick(() => {',
    tests('test/server/many-bursts.test.ts'),
  ],
  [
    'newcomers have a share of a turn before those who wait for it',
    'src/core/turns.ts',
    'return this.#isLeft() && (this.#serving || this.#line.isEmpty);',
    'return this.#isLeft();',
    TURNS,
  ],
  [
    'a share that others spend in every turn never comes to those who wait',
    'src/core/turns.ts',
    'if (this.#passedBy) this.#left = Math.max(this.#left, this.#perTurn, partOfOthers);',
    '',
    TURNS,
  ],
  [
    'a share comes anew between what the loop polls and what has waited',
    'src/core/turns.ts',
    'for (const share of shares) share.serve();',
    'current++;\n  for (const share of shares) share.serve();',
    TURNS,
  ],
  [
    'who is passed by in long turns has no part of them',
    'src/core/turns.ts',
    'this.#left, this.#perTurn, partOfOthers);',
    'this.#left, this.#perTurn);',
    TURNS,
  ],
  [
    'a share comes anew for those who wait in every turn',
    'src/core/turns.ts',
    'this.#passedBy = this.#left <= 0;',
    'this.#passedBy = true;',
    TURNS,
  ],
  [
    'all that waits for a turn is done in one',
    'src/core/turns.ts',
    'line.serve(() => now() < until, waitedSince);',
    'line.serve(() => true, waitedSince);',
    tests('test/server/many-bursts.test.ts'),
  ],
  [
    'what waits for a turn goes on before the loop has polled',
    'src/core/turns.ts',
    'line.serve(() => now() < until, waitedSince);',
    'line.serve(() => now() < until);',
    TURNS,
  ],
  [
    'h2: what waits comes before the answers to others',
    'src/h2/wire.ts',
    'beginTurnsBySending(flushAll);',
    'beginTurnsBySending(() => process.nextTick(flushAll));',
    tests('test/server/many-bursts.test.ts'),
  ],
  [
    'a turn writes as much of large answers as the kernel takes',
    'src/core/turns.ts',
    'return this.#left > 0;',
    'return true;',
    LARGE_ANSWERS,
  ],
  [
    'a turn writes as much to clients that may read nothing as to others',
    'src/core/large-writes.ts',
    'provesReading(socket) ? 1 : UNPROVEN',
    '1',
    LARGE_ANSWERS,
  ],
  [
    'h1: what goes in one piece to clients that may read nothing is as large as to others',
    'src/core/large-writes.ts',
    'provesReading(socket) ? SLICE : UNPROVEN_SLICE',
    'SLICE',
    LARGE_ANSWERS,
  ],
  [
    'clients that have read much are taken for new ones for ever',
    'src/core/large-writes.ts',
    'provesReading(socket) ? 1 : UNPROVEN',
    'UNPROVEN',
    LARGE_ANSWERS,
  ],
  [
    'h2: a process ends before it has read what it has put off',
    'src/h2/reading.ts',
    'new Alarm(() => this.#inLaterTurn(), true);',
    'new Alarm(() => this.#inLaterTurn());',
    someTests('test/h2-connection/reading.test.ts', 'a process ends when'),
  ],
  [
    'h2: a client that resets what it opens is read from as fast as ever',
    'src/h2/reading.ts',
    'this.#delayedUntil = now() + ms;',
    '',
    someTests('test/h2-connection/reading.test.ts', 'resets what it opens'),
  ],
  [
    "what comes of a large write is told in nobody's context",
    'src/h1/writes.ts',
    'context.runInAsyncScope(this.#writeOn);',
    'this.#writeOn();',
    LARGE_ANSWERS,
  ],
  [
    'what a write callback throws while its connection is reset is lost, and the connection stays',
    'src/h1/writes.ts',
    'if (vector.destroyed) {',
    'if (vector === undefined) {',
    someTests('test/server/large-answers.test.ts', 'before its socket is closed'),
  ],
  [
    'a write callback that throws keeps a connection whose peer has reset it',
    'src/h1/writes.ts',
    'if (error) process.nextTick(() => vector.destroy(error));',
    '',
    someTests('test/server/large-answers.test.ts', 'of a client that is gone'),
  ],
  [
    // Only Node 20 calls such a write complete.
    'slices are written on behind the end of their socket',
    'src/h1/writes.ts',
    'error ?? (this.#vector.destroyed && this.#left.length > 0 ? socketClosed() : undefined)',
    'error',
    someTests('test/server/large-answers.test.ts', 'as its write is cut'),
  ],
  [
    'what waits starves where others make turns long',
    'src/core/turns.ts',
    'Math.min(...othersTook) * PART_OF_OTHERS;',
    '0;',
    TURNS,
  ],
  [
    "a body's time runs while its request waits for room",
    H1_CONNECTION,
    '|| exchange.waits) return',
    ') return',
    tests('test/server/many-bursts.test.ts'),
  ],
  [
    'HTTP/2 writes on without room for it',
    'src/h2/wire.ts',
    'if (largeWrites.hasRoom) return true;',
    'if (!this.#waitsForRoom) return true;',
    LARGE_ANSWERS,
  ],
  [
    'an answer that a reset cuts short counts as served',
    'src/socket-internals.ts',
    'if (writeQueueSize !== 0 || _writableState.bufferedRequestCount !== 0) return false;',
    'if (_writableState === undefined) return false;',
    tests('test/h2-connection/connection.test.ts'),
  ],
  ['h2: bodies stay where the next are received', 'src/h2/copy.ts', 'return copy;', 'return bytes;', H2_READING],
  [
    'h2: the deadline throws away what the client has yet to read',
    H2_DRAIN,
    'this.#pings.send(() => resolve()));',
    'resolve());',
    someTests('test/h2-connection/drain.test.ts', 'before the deadline cuts'),
  ],
  [
    'h2: the last-stream-id is 2 too low',
    H2_DRAIN,
    'wire.idle;\n    session.goaway(session.highestStreamId,',
    'wire.idle;\n    session.goaway(session.highestStreamId - 2,',
    H2,
  ],
  [
    'h2: the last-stream-id is 2 too high',
    H2_DRAIN,
    'wire.idle;\n    session.goaway(session.highestStreamId,',
    'wire.idle;\n    session.goaway(session.highestStreamId + 2,',
    H2,
  ],
  ['h2: the final GOAWAY comes first', H2_DRAIN, 'goaway(MAX_STREAM_ID,', 'goaway(session.highestStreamId,', H2],
  ['h2: the PING is never sent', 'src/h2/pings.ts', 'this.#session.ping(opaque);', '', H2],
  ['h2: the ACK is ignored', 'src/h2/pings.ts', 'if (ping === undefined) return;', 'return;', H2],
  [
    'h2: streams above the last-stream-id are served',
    'src/h2/inbound.ts',
    ifAbove('life.refuse'),
    ifNever('life.refuse'),
    H2,
  ],
  ['h2: refused streams are not counted', 'src/h2/requests.ts', 'this.connection.counts.refused++;', '', H2],
  ['h2: finishes with streams open', H2_DRAIN, 'connection.active === 0 && session.active === 0 && (', '(', H2],
  [
    'h2: finds nothing to finish although streams are open',
    H2_DRAIN,
    'this.#nothingToFinish = connection.active === 0 && session.active === 0 &&',
    'this.#nothingToFinish =',
    H2,
  ],
  [
    'h2: an upload that nobody needs holds the drain',
    H2_DRAIN,
    'else if (connection.active > 0) {',
    'else if (connection.active < 0) {',
    someTests('test/h2-connection/drain.test.ts', 'never finishes a request'),
  ],
  [
    'h2: the deadline counts answered requests as aborted',
    H2_DRAIN,
    "if (user.responded) this.#on.abandon(user, 'served', ErrorCode.NO_ERROR);\n      else",
    '',
    H2,
  ],
  ['h2: the deadline lets streams open', H2_DRAIN, "else this.#on.abandon(user, 'aborted', ErrorCode.CANCEL);", '', H2],
  [
    'a timer acts before the loop has polled',
    TIMING,
    'this.#ringer = ringAfterPoll(() => {',
    '(this.#ringer as unknown) = ((act: () => void) => act())(() => {',
    [...H2, ...H1],
  ],
  [
    'a turn that stalled after its poll is not polled again',
    'src/core/ringing.ts',
    'if (at - scheduledAt > FRESH && !polledAgain) {',
    'if (at < 0) {',
    tests('test/core/timing.test.ts'),
  ],
  [
    'alarms ring all in one turn, however long it takes',
    'src/core/ringing.ts',
    'if (at < until) ringNext();',
    'ringNext();',
    tests('test/core/ringing.test.ts'),
  ],
  [
    'lingering has all of a short timeout',
    SHUTDOWN,
    'timeout - Math.min(linger, timeout * LINGER_PART)',
    'timeout - linger',
    someTests('test/server/shutdown.test.ts', 'timeout of a second'),
  ],
  [
    'h2: a request that is read no further takes its stream with it',
    'src/h2/request.ts',
    'this.socket !== null && (',
    '(',
    BODIES,
  ],
  [
    'h2: what nobody reads any more is taken without end until the answer',
    'src/h2/exchange.ts',
    'if (req._dumped || this.responded) this.owner',
    'this.owner',
    BODIES,
  ],
  [
    'h2: the time of a body ends a request that is read no further, and not answered yet',
    'src/h2/deadlines.ts',
    'user.readsNoMore !== true &&',
    '',
    BODIES,
  ],
  [
    'h1: what is left of a body that is read no further holds the connection',
    'src/h1/tail.ts',
    'if (req.destroyed) {',
    'if (req.destroyed && req.complete) {',
    BODIES,
  ],
  [
    'h1: nobody reads on where a body is given up after its answer',
    'src/h1/tail.ts',
    'else discard();',
    'else over();',
    BODIES,
  ],
  [
    'h1: a body that is cut is not aborted',
    'src/http-internals.ts',
    "req.emit('aborted');",
    '',
    someTests('test/h1/timeouts.test.ts', 'aborted'),
  ],
  [
    'h1: what a handler has entered is gone when the rest of the body comes',
    PIPELINE,
    'if (!req.complete) receiveWithin(req, new AsyncResource(REQUEST_RESOURCE));',
    '',
    HANDLERS,
  ],
  [
    'h1: requests reach handlers behind a FIN of the application’s own',
    H1_CONNECTION,
    'if (this.#isLate || this.socket.writableEnded) {',
    'if (this.#isLate) {',
    someTests('test/h1/drain.test.ts', 'FIN of the application'),
  ],
  [
    'h2: a frame counts as come when its header has',
    'src/h2/inbound.ts',
    'stream.bytesReceived += end - start;',
    'if (stream.bytesReceived === 0) stream.bytesReceived += 1;',
    someTests('test/h2-connection/deadlines.test.ts', 'few octets'),
  ],
  [
    'a second call during lingering has no say',
    LINGER,
    'this.#linger = Math.min(this.#linger, linger);',
    '',
    someTests('test/core/linger.test.ts', 'ends sooner'),
  ],
  ['the deadline is ignored', SHUTDOWN, 'this.#alarm.set(Math.min(this.#terms.deadline, this.#end));', '', H2],
  ['a forced cut may take for ever', SHUTDOWN, 'setTimeout(end, CUT_FLUSH)', 'setTimeout(end, 1e9)', H2],
  ['a second call has no say', SHUTDOWN, 'deadline: Math.min(this.#terms.deadline, now() + settings.timeout),', '', H2],
  [
    'a call after the end sets the alarm again',
    SHUTDOWN,
    "if (connection.state !== 'closed') running.join(settings);",
    'running.join(settings);',
    H2,
  ],
  [
    'the deadline cuts those who read the last answer slowly',
    SHUTDOWN,
    'this.#alarm.set(this.#end);',
    '',
    someTests('test/contract/h2.test.ts', 'have all of the last answer'),
  ],
  ['no linger', SHUTDOWN, "await this.#phase('linger', () => driver.linger());", '', H2],
  [
    'lingers for a fixed time',
    LINGER,
    'if (bytesRead !== this.#bytesRead || !writableFinished) {',
    'if (this.#socket.destroyed) {',
    tests('test/core/linger.test.ts'),
  ],
  [
    'lingers for ever',
    LINGER,
    'if (now() >= Math.min(this.#silentSince + this.#linger, this.#until)) this.#end();',
    'if (this.#socket.destroyed) this.#end();',
    H1,
  ],
  [
    'an aborted request counts as served',
    'src/core/connection.ts',
    "this.ended('aborted');",
    "this.ended('served');",
    H2,
  ],
  [
    'h1: no close mark',
    H1_CONNECTION,
    "return (\n      this.#state === 'announced' &&",
    "return (\n      this.#state === 'open' &&",
    H1,
  ],
  ['h1: close on the first of several pipelined', H1_CONNECTION, 'this.#unanswered.last === exchange &&', '', H1],
  [
    'h1: close although the next head has begun',
    H1_CONNECTION,
    'this.#headBeganAt === 0 &&\n      !this.#backlog',
    '!this.#backlog',
    someTests('test/h1/drain.test.ts', 'whose head has begun'),
  ],
  [
    'h1: pipelined requests of all connections are handled in one turn',
    PIPELINE,
    'turns.do(() => {',
    'process.nextTick(() => {',
    tests('test/server/many-bursts.test.ts'),
  ],
  [
    'h1: close although requests that were read are not parsed',
    H1_CONNECTION,
    '!this.#backlog.holdsBytes &&',
    '',
    someTests('test/h1/backlog.test.ts', 'when a drain begins'),
  ],
  [
    'h1: what a handler enters is lost at the end of its request',
    PIPELINE,
    'process.nextTick(process.nextTick, advance, this)',
    'process.nextTick(advance, this)',
    tests('test/h1/pipelining.test.ts'),
  ],
  [
    'h1: a request whose end somebody waits for since its answer ends unnoticed',
    'src/http-internals.ts',
    '(eventsOf(req) === 1 && end === clearIncoming && clearIncoming !== undefined)',
    'eventsOf(req) > 0',
    H1_UNREAD,
  ],
  [
    'h1: a request ends unnoticed before those who hear of its answer can listen to it',
    'src/http-internals.ts',
    'void SETTLED.then(() => endAlone(this));',
    'endAlone(this);',
    H1_UNREAD,
  ],
  [
    'h1: the rest of a body that nobody reads stays unread',
    'src/http-internals.ts',
    '!this.complete || this.readableLength > 0 || ',
    '',
    H1_UNREAD,
  ],
  [
    'the RST behind a write of TLS is never found',
    'src/core/connection.ts',
    '!endedInOrder(this.#raw)',
    'this.#raw.destroyed',
    someTests('test/faults/phases.test.ts', 'a RST right behind'),
  ],
  [
    "h1: the parser's pause is an error",
    H1_CONNECTION,
    'if (this.#backlog.paused(error)) return;',
    '',
    someTests('test/h1/backlog.test.ts', 'answered in order'),
  ],
  [
    'h1: reading does not go on by itself once the rest is parsed',
    'src/h1/backlog.ts',
    'this.#readsByHand = true;',
    '',
    someTests('test/h1/backlog.test.ts', 'answered in order'),
  ],
  [
    'h1: the parser stops before the end of a request',
    'src/http-internals.ts',
    'parser?.execute(NOTHING);',
    '',
    H1_BACKLOG,
  ],
  [
    'h1: an upgraded socket is paused for ever',
    'src/h1/backlog.ts',
    "this.#socket.off('resume', this.#onResume);",
    '',
    someTests('test/h1/backlog.test.ts', 'leave the socket to an upgrade'),
  ],
  [
    'h1: nobody looks at the clock when reading goes on',
    H1_CONNECTION,
    'this.headBegan();\n    this.#timeouts.reconsider();',
    'this.headBegan();',
    someTests('test/h1/backlog.test.ts', 'from after idleWait'),
  ],
  [
    'h1: requests that come during the drain get no close',
    H1_CONNECTION,
    "if (this.#state === 'announced') exchange.followHead();",
    '',
    H1,
  ],
  [
    'h1: a late request is taken for one that will be answered',
    H1_CONNECTION,
    "return this.#state === 'committed' || this.#state === 'ended' ||",
    'return',
    [...H1, ...H1_TESTS],
  ],
  ['h1: the head with close waits for the body', H1_CONNECTION, 'sendHead(res);', '{}', [...H1, ...H1_TESTS]],
  [
    'h1: unserved requests are not counted',
    H1_CONNECTION,
    'if (!isCounted) this.connection.counts.unserved++;',
    '',
    H1,
  ],
  [
    'h1: an idle connection is closed without lingering',
    H1_CONNECTION,
    'this.#lingering = new LingeringClose(',
    'this.socket.destroy();\n      this.#lingering = new LingeringClose(',
    H1,
  ],
  [
    'h1: a timeout that one request has asked for holds for the next',
    H1_CONNECTION,
    'socket.setTimeout(inactivity.timeout);',
    '',
    SURFACE,
  ],
  [
    'h1: an idle connection that has had its time waits once more',
    H1_CONNECTION,
    'drain(this.connection, { ...this.#context.recycling, idleWait: 0 });\n  }\n\n  stuck',
    'drain(this.connection, this.#context.recycling);\n  }\n\n  stuck',
    someTests('test/h1/keep-alive.test.ts', 'whatever a drain may wait'),
  ],
  [
    'h1: nobody gets an upgrade whose listener has gone',
    'src/h1/upgrade.ts',
    'if (!host.listensFor(event)) {',
    "if (event === 'connect' && !host.listensFor(event)) {",
    someTests('test/h1/upgrade.test.ts', 'when it has waited'),
  ],
  [
    'h1: an upgrade behind an answer that ends the connection is not counted',
    'src/h1/upgrade.ts',
    "this.#owner.connection.ended('unserved');",
    '',
    tests('test/h1/upgrade.test.ts'),
  ],
  [
    'h1: a refusal is in flight for ever when its connection closes',
    'src/h1/refusal.ts',
    'closed(): void {\n    this.#settle();',
    'closed(): void {',
    tests('test/h1/malformed.test.ts', 'test/h1/pipelining.test.ts'),
  ],
  [
    'closeIdleConnections closes those that have just come',
    'src/stop.ts',
    'return active === 0 && served === 0 && epochNow() - openedAt < FIRST_REQUEST_WAIT;',
    'return false;',
    SURFACE,
  ],
  [
    'what a broken head has left holds for the 500',
    'src/http-internals.ts',
    "internals._hasBody = res.req.method !== 'HEAD';",
    '',
    someTests('test/server/handlers.test.ts', 'allows none'),
  ],
  [
    'a broken reason phrase breaks the 500, too',
    'src/requests.ts',
    'res.writeHead(500, REASON, forgetHead',
    'res.writeHead(500, forgetHead',
    HANDLERS,
  ],
  [
    "h2: a listener of 'clientError' that answers ends the process",
    'src/h2/socket-view.ts',
    'override end(...args: unknown[]): this {',
    'endless(...args: unknown[]): this {',
    tests('test/h2-connection/connection.test.ts'),
  ],
  [
    'h2: a body of unknown length is none to body parsers',
    'src/h2/fields.ts',
    "rawHeaders.push('transfer-encoding', 'chunked');",
    '',
    tests('test/interop/express.test.ts'),
  ],
  [
    'h2: what the table holds is taken for valid',
    'src/h2/hpack/decoder.ts',
    'kindsOfField = table.kinds(index);',
    'kindsOfField = 0xff;',
    H2_FIELDS,
  ],
  [
    'h2: a name of the table is taken for valid',
    'src/h2/hpack/decoder.ts',
    'this.#indexedKinds(index) & NAME;',
    'NAME;',
    H2_FIELDS,
  ],
  [
    'h2: a table that grows forgets what is valid',
    'src/h2/hpack/decoder-table.ts',
    'kinds[this.count - 1 - i] = this.kinds(i);',
    'kinds[this.count - 1 - i] = 0xff;',
    H2_FIELDS,
  ],
  [
    'h2: a slot of the table keeps what was valid in it',
    'src/h2/hpack/decoder-table.ts',
    'this.#kinds[slot] = kinds;',
    'this.#kinds[slot] ||= kinds;',
    H2_FIELDS,
  ],
  ['h2: a long list forgets what is valid', 'src/h2/hpack/decoder.ts', 'more.set(kinds);', '', H2_FIELDS],
  [
    'h2: an empty frame needs window',
    'src/h2/flow.ts',
    'if (length > 0 && length > windows.receiveWindow)',
    'if (length > windows.receiveWindow)',
    tests('test/h2/flow.test.ts'),
  ],
  [
    'h2: nobody learns that an empty write is written',
    'src/h2/wire.ts',
    'else if (this.#tracked.length > 0) this.#trackNothing();',
    '',
    someTests('test/h2-connection/connect.test.ts', 'behind an empty write'),
  ],
  [
    'h2: an empty write is written before what was written first',
    'src/h2/wire.ts',
    'const last = this.#unwritten.pop();',
    'const last = this.#unwritten[1_000_000];',
    H2_RESPONSE,
  ],
  ['h2: the date is never told anew', 'src/h2/date.ts', 'isFresh = false;\n}', '}', H2_RESPONSE],
  [
    'h2: a corked response waits for room for ever',
    'src/h2/response.ts',
    'if (this[kNeedDrain] && !exchange.stream.needsDrain) process.nextTick(drained, this);',
    '',
    someTests('test/h2-connection/response.test.ts', 'room again'),
  ],
  [
    'h2: a request that was answered before its end never closes',
    'src/h2/exchange.ts',
    'if (!req._dumped) return;',
    'return;',
    someTests('test/h2-connection/response.test.ts', 'closes its request'),
  ],
  [
    'a server that is full makes no room for those that it refuses',
    'src/server.ts',
    "this.on('drop', () => this.#makeRoom());",
    '',
    someTests('test/server/overload.test.ts', 'when it is asked for'),
  ],
  [
    'making room loses the first request behind a handshake',
    'src/stop.ts',
    'if (idleWait >= FIRST_REQUEST_WAIT || !isNew(connection))',
    'if (connection !== undefined)',
    tests('test/server/overload.test.ts'),
  ],
  [
    'a server that listens anew still drains whoever comes',
    'src/stop.ts',
    ".then(() => void this.#connections.off('open', onOpen))",
    '',
    STOPPING,
  ],
  [
    'a server that listens anew is stopping for ever',
    'src/closing-listener.ts',
    ".prependListener('listening', onListening)",
    '',
    STOPPING,
  ],
  ['a delay stays on its signal', 'src/stop.ts', 'this.#delayOver.abort();', '', STOPPING],
  [
    'an option that is undefined takes the place of a default',
    'src/core/options.ts',
    'given !== undefined)',
    'given !== null)',
    STOPPING,
  ],
  [
    'the certificate before the last one comes back',
    'src/server.ts',
    'this.#settings.tls = renewed;',
    'this.#settings.tls = { ...this.#settings.tls, ...renewed };',
    TLS,
  ],
  ['the first ticket keys come back', 'src/server.ts', '{ ...renewed, ticketKeys: keys }', 'renewed', TLS],
  [
    'a listener that throws keeps a connection from going its way',
    'src/core/rethrow.ts',
    'rethrow(error);\n    }\n  }\n  return',
    'throw error;\n    }\n  }\n  return',
    someTests('test/server/throwing-listeners.test.ts', "connections 'open' and 'close'"),
  ],
  [
    'a connection that has gone is waited for until its turn',
    'src/core/waves.ts',
    'if (!this.#lose(member)) return;',
    'return;',
    tests('test/core/waves.test.ts'),
  ],
  [
    'what a closed connection counted is forgotten',
    'src/core/registry.ts',
    'addTo(this.#ended, connection.counts);',
    '',
    someTests('test/server/request-counts.test.ts', 'on closed connections'),
  ],
  [
    'the workers of a cluster share one operator endpoint',
    'src/ops/operator.ts',
    'exclusive: true',
    'exclusive: false',
    OPERATOR,
  ],
  [
    'the operator is told how far it was first, and nothing later',
    'src/ops/operator-reply.ts',
    'this.#untold = progress;',
    'this.#untold ??= this.#telling === undefined ? progress : undefined;',
    OPERATOR,
  ],
  [
    'h1: idleWait is ignored',
    'src/h1/idle.ts',
    'idleWait === undefined ? held :',
    'idleWait !== 0 ? held :',
    someTests('test/h1/drain.test.ts', 'in idleWait'),
  ],
];

function simulation(proto) {
  const args = [
    '--import',
    'tsx',
    'test/simulation/main.ts',
    '--proto',
    proto,
    '--bail',
    '--schedules',
    `${SCHEDULES}`,
  ];
  return [{ name: `simulate --proto ${proto}`, args }];
}

/** The tests of a file whose names match. */
function someTests(file, names) {
  return tests(file).map(({ name, args }) => ({ name, names, args: [...args, '--grep', names, '--fail-zero'] }));
}

function tests(...files) {
  return files.map((file) => ({
    name: file,
    args: [
      'node_modules/mocha/bin/mocha.js',
      '--no-config',
      '--node-option',
      'import=tsx',
      '--bail',
      '--exit',
      '--timeout',
      '10000',
      file,
    ],
  }));
}

function ifAbove(then) {
  return `if (streamId > life.goawayLast) {\n      ${then}`;
}

function ifNever(then) {
  return `if (streamId < 0) {\n      ${then}`;
}

/** A copy of what the checks need. */
function copyTree() {
  const copy = mkdtempSync(join(tmpdir(), 'lastcall-mutants-'));
  for (const name of ['src', 'test', 'bench/lib', 'package.json', 'tsconfig.json', '.mocharc.json']) {
    cpSync(join(root, name), join(copy, name), { recursive: true });
  }
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'));
  return copy;
}

/** Runs a check in a copy: how it ended, and its last words. */
function run(copy, { args }) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, args, { cwd: copy, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    let output = '';
    const listen = (bytes) => {
      output = (output + bytes).slice(-20_000);
    };
    child.stdout.on('data', listen);
    child.stderr.on('data', listen);
    let hung = false;
    const timer = setTimeout(() => {
      hung = true;
      process.kill(-child.pid, 'SIGKILL');
    }, PATIENCE);
    child.on('close', (code) => {
      clearTimeout(timer);
      resolve({ passed: code === 0 && !hung, hung, output });
    });
  });
}

/** The line of a failed check that says most. */
function reasonOf({ hung, output }) {
  if (hung) return 'hangs';
  const lines = output.split('\n').map((line) => line.trim());
  const violation = lines.findIndex((line) => /^schedule \d+ fails/.test(line));
  if (violation >= 0) return lines[violation + 1];
  return lines.find((line) => /^\w*Error|^1\) /.test(line) && line.length > 3) ?? lines.filter(Boolean).at(-1) ?? '';
}

async function tryMutant(copy, [name, file, from, to, checks]) {
  const path = join(copy, file);
  const source = readFileSync(path, 'utf8');
  const times = source.split(from).length - 1;
  if (times !== 1) return { name, caught: false, by: '-', reason: `its line is ${times} times in ${file}`, ms: 0 };
  const startedAt = performance.now();
  writeFileSync(
    path,
    source.replace(from, () => to),
  );
  try {
    for (const check of checks) {
      const result = await run(copy, check);
      const ms = performance.now() - startedAt;
      // Any check would notice that.
      if (result.output.includes('TransformError')) {
        return { name, caught: false, by: '-', reason: `${file} can't be compiled`, ms };
      }
      if (/^ *0 passing/m.test(result.output) && !/^ *\d+ failing/m.test(result.output)) {
        return { name, caught: false, by: '-', reason: `no test of ${check.name} is named ${check.names}`, ms };
      }
      if (!result.passed) return { name, caught: true, by: check.name, reason: reasonOf(result), ms };
    }
    return { name, caught: false, by: '-', reason: 'nobody has noticed', ms: performance.now() - startedAt };
  } finally {
    writeFileSync(path, source);
  }
}

/** Without any break, every check has to pass: else it would notice anything. Those of one file run in one go. */
async function checkChecks(copies, mutants) {
  const checks = new Map();
  for (const check of mutants.flatMap(([, , , , all]) => all)) {
    checks.set(check.name, [...(checks.get(check.name) ?? []), check]);
  }
  await inParallel(copies, checks, async (copy, [file, all]) => {
    const names = [...new Set(all.map(({ names }) => names))].join('|');
    const [check] = all.every(({ names }) => names !== undefined)
      ? someTests(file, names)
      : all.filter(({ names }) => names === undefined);
    const result = await run(copy, check);
    if (!result.passed) throw new Error(`${check.name} fails without any break: ${reasonOf(result)}`);
  });
}

/** Those that the arguments name. */
function chosen() {
  try {
    const { only, help } = parseArgs({ options: { only: { type: 'string' }, help: { type: 'boolean' } } }).values;
    if (help) {
      console.log(USAGE);
      process.exit(0);
    }
    const named = only === undefined ? MUTANTS : MUTANTS.filter(([name]) => name.includes(only));
    if (named.length > 0) return named;
    console.error(`--only: no break has ${JSON.stringify(only)} in its name`);
  } catch (error) {
    console.error(error.message);
  }
  console.error(USAGE);
  process.exit(2);
}

async function inParallel(copies, items, work) {
  const left = [...items];
  await Promise.all(
    copies.map(async (copy) => {
      // From the end: the first in the list are short, and fill up what is left of the time.
      for (let item = left.pop(); item !== undefined; item = left.pop()) await work(copy, item);
    }),
  );
}

const mutants = chosen();
prepare();
// Checks wait more than they compute.
const copies = Array.from({ length: Math.min(6, 3 * availableParallelism()) }, copyTree);
const from = performance.now();
try {
  await checkChecks(copies, mutants);
  const missed = [];
  await inParallel(copies, mutants, async (copy, mutant) => {
    const { name, caught, by, reason, ms } = await tryMutant(copy, mutant);
    const seconds = (ms / 1000).toFixed(1).padStart(5);
    const line = `${caught ? 'caught  ' : 'MISSED  '} ${seconds} s  ${name.padEnd(56)}  ${by.padEnd(34)}  ${reason}`;
    console.log(line);
    if (!caught) missed.push(line);
  });
  const seconds = Math.round((performance.now() - from) / 1000);
  // Once more at the end, which is what is kept of a long log.
  for (const line of missed) console.log(line);
  console.log(`${mutants.length - missed.length} of ${mutants.length} breaks are caught, in ${seconds} s`);
  if (missed.length > 0) process.exitCode = 1;
} finally {
  for (const copy of copies) rmSync(copy, { recursive: true, force: true });
}
