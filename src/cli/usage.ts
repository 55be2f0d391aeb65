/** What `lastcall --help` and `lastcall COMMAND --help` say. */

const OPERATOR = `  --operator WHERE     port or http URL of the operator endpoint (default 8400)
  --json               answer with JSON
  --help               this text
`;

const FILTERS = `FILTER: conditions that must all hold, such as  tag.tenant=acme 'age>1h' proto=h2
  proto=h1|h2          tag.NAME=VALUE       addr=10.0.0.0/8      port=8443
  sni=HOST             authority=HOST       age>1h  idle>=90s    served<100  active=0
  sample=10%           a part of the rest, oldest first; 10%:random for a random one
Several values go with commas: tag.tenant=acme,other. Quote < and > for the shell.
`;

export const USAGE = {
  general: `usage: lastcall serve [APP] [options]     serve an application
       lastcall list [FILTER] [options]   list the connections of a running server
       lastcall drain WHAT [options]      close some of them without losing a request

lastcall COMMAND --help tells more; --version tells the version.
`,

  serve: `usage: lastcall serve [APP] [options]

Serves HTTP/1.1 and HTTP/2 on one TLS port. APP is a module whose default export
is a (req, res) listener, such as an Express app; without it, a demo.

options:
  --port PORT       port to listen on (default 8443; 0: any free one)
  --host HOST       address to listen on (default 127.0.0.1; 0.0.0.0: all)
  --key FILE        private key, PEM; without it and --cert, a self-signed
  --cert FILE       certificate chain, PEM; made at start, kept in memory
  --operator PORT   port of the operator endpoint on 127.0.0.1: list and drain
                    connections (default 8400; 0: any free one; off: none)
  --timeout TIME    of a shutdown, from the signal to the end (default 25s)
  --delay TIME      after SIGTERM: serve on for so long, not ready, so that
                    balancers notice (default 5s, or a fifth of the timeout)
  --help            this text
  --version         the version

Ctrl-C: no new connections, every open one is drained, exit. SIGTERM: the same
after --delay. A second one cuts what is left, as does the end of --timeout.
TIME: 500ms, 10s, 1h30m, or a number of milliseconds.
`,

  list: `usage: lastcall list [FILTER] [options]

Lists the connections of a server with an operator endpoint on this machine.

options:
${OPERATOR}
${FILTERS}`,

  drain: `usage: lastcall drain ID|FILTER|all [options]

Closes connections of a server with an operator endpoint on this machine without
losing a request, and tells what came of it. Ctrl-C: no more drains begin, those
that have begun go on.

options:
  --spread TIME        begin the drains evenly over this time
  --concurrency COUNT  at most so many at once
  --follow             also connections that match later, while it goes on
  --timeout TIME       then cut what is left of each (default 30s; Infinity: never)
  --idle-wait TIME     HTTP/1.1: how long an idle one may bring one more request
  --settle TIME        HTTP/2: longest wait for the PING's answer (default 5s)
  --linger TIME        of the client's silence after our FIN (default 2s)
  --linger-max TIME    for lingering in all (default 30s)
  --reason TEXT        goes into the GOAWAY frame
  --no-wait            don't wait for the end
${OPERATOR}
${FILTERS}
TIME: 500ms, 10s, 1h30m, or a number of milliseconds.
Exit code: 0: nothing was lost. 2: requests were cut or lost, or it isn't known: the
server broke off. 1: a mistake, or no server answers; nothing was drained.
`,
} as const;
