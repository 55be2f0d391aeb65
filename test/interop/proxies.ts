/**
 * The proxies that most servers stand behind, each set up to keep its connections to the server and to retry nothing.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Protocol } from '../../src/index.js';

export interface Proxy {
  readonly name: string;
  readonly program: string;
  /** asks it for its version */
  readonly version: string;
  readonly tls: boolean;
  /** what it speaks with the server */
  readonly protocol: Protocol;
  /**
   * Go's client closes the body of a request that it was about to send when a GOAWAY comes, and has nothing to send on the
   * next connection: in Caddy that is a 502, whatever the server does.
   */
  readonly onlyWithoutBody?: true;
  /** knows no UNIX sockets to listen on: a port of 127.0.0.1 instead */
  readonly needsPort?: true;
  readonly args: (config: string, place: Place) => string[];
  readonly config: (place: Place) => string;
}

export interface Place {
  readonly folder: string;
  /** the server's */
  readonly port: number;
  /** a UNIX socket in the folder, or the port of one that knows none */
  readonly own: string | number;
}

/** Debian's place for what isn't everybody's to run. */
export function sbin(program: string): string {
  const path = `/usr/sbin/${program}`;
  return existsSync(path) ? path : program;
}

function haproxy(name: string, tls: boolean, protocol: Protocol, options: string): Proxy {
  return {
    name: `HAProxy, ${name}`,
    program: sbin('haproxy'),
    version: '-v',
    tls,
    protocol,
    args: (config) => ['-db', '-f', config],
    config: ({ own, port }) => `
global
  maxconn 1000
defaults
  mode http
  timeout connect 5s
  timeout client 30s
  timeout server 30s
  retries 0
  http-reuse always
listen proxy
  bind unix@${own}
  server backend 127.0.0.1:${port} ${options}
`,
  };
}

function nginx(name: string, tls: boolean): Proxy {
  return {
    name: `nginx, ${name}`,
    program: sbin('nginx'),
    version: '-v',
    tls,
    protocol: 'http/1.1',
    args: (config) => ['-c', config, '-e', 'stderr'],
    config: ({ folder, own, port }) =>
      nginxConfig(
        folder,
        `
  upstream backend { server 127.0.0.1:${port}; keepalive 64; }
  server {
    listen unix:${own};
    location / {
      proxy_pass ${tls ? 'https' : 'http'}://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_next_upstream off;
    }
  }`,
      ),
  };
}

/**
 * nginx in one process, in the foreground.
 *
 * @param folder everything that it writes goes there
 * @param http what it does
 */
export function nginxConfig(folder: string, http: string): string {
  return `
daemon off;
master_process off;
error_log stderr crit;
pid ${folder}/pid;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path ${folder}/body;
  proxy_temp_path ${folder}/proxied;
  fastcgi_temp_path ${folder}/fastcgi;
  uwsgi_temp_path ${folder}/uwsgi;
  scgi_temp_path ${folder}/scgi;
${http}
}
`;
}

/** When all of its threads are busy, it closes connections of its clients that it has promised to keep: 25 are few. */
function apache(name: string, tls: boolean): Proxy {
  const modules = ['mpm_event', 'authz_core', 'proxy', 'proxy_http', ...(tls ? ['ssl'] : [])];
  return {
    name: `Apache, ${name}`,
    program: sbin('apache2'),
    version: '-v',
    tls,
    protocol: 'http/1.1',
    needsPort: true,
    args: (config) => ['-X', '-f', config],
    config: ({ folder, own, port }) => `
ServerRoot ${folder}
ServerName localhost
PidFile ${folder}/pid
User daemon
Group daemon
DefaultRuntimeDir ${folder}
ErrorLog "|$cat >&2"
LogLevel crit
Listen 127.0.0.1:${own}
${modules.map((name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`).join('\n')}
${tls ? 'SSLProxyEngine on\nSSLProxyVerify none\nSSLProxyCheckPeerName off\nSSLProxyCheckPeerExpire off' : ''}
KeepAlive on
MaxKeepAliveRequests 0
KeepAliveTimeout 60
ThreadsPerChild 100
MaxRequestWorkers 100
ProxyPass / ${tls ? 'https' : 'http'}://127.0.0.1:${port}/
`,
  };
}

const varnish: Proxy = {
  name: 'Varnish, HTTP/1.1 in cleartext',
  program: sbin('varnishd'),
  version: '-V',
  tls: false,
  protocol: 'http/1.1',
  args: (config, { folder, own }) => ['-j', 'none', '-F', '-a', `${own}`, '-f', config, '-n', join(folder, 'varnish')],
  config: ({ port }) => `
vcl 4.1;
backend default { .host = "127.0.0.1"; .port = "${port}"; }
sub vcl_recv { return (pass); }
`,
};

function caddy(name: string, tls: boolean, protocol: Protocol): Proxy {
  const versions = protocol === 'h2' ? (tls ? '2' : 'h2c') : '1.1';
  return {
    name: `Caddy, ${name}`,
    program: 'caddy',
    version: 'version',
    tls,
    protocol,
    ...(protocol === 'h2' && { onlyWithoutBody: true }),
    args: (config) => ['run', '--adapter', 'caddyfile', '--config', config],
    config: ({ own, port }) => `
{
  admin off
  auto_https off
  log {
    level ERROR
  }
}
http:// {
  bind unix/${own}
  reverse_proxy ${tls ? 'https' : 'http'}://127.0.0.1:${port} {
    transport http {
      versions ${versions}
      ${tls ? 'tls_insecure_skip_verify' : ''}
    }
  }
}
`,
  };
}

export const PROXIES: readonly Proxy[] = [
  nginx('HTTP/1.1 in cleartext', false),
  nginx('HTTP/1.1 over TLS', true),
  haproxy('HTTP/1.1 in cleartext', false, 'http/1.1', ''),
  haproxy('HTTP/1.1 over TLS', true, 'http/1.1', 'ssl verify none alpn http/1.1'),
  haproxy('HTTP/2 in cleartext', false, 'h2', 'proto h2'),
  haproxy('HTTP/2 over TLS', true, 'h2', 'ssl verify none alpn h2'),
  apache('HTTP/1.1 in cleartext', false),
  apache('HTTP/1.1 over TLS', true),
  varnish,
  caddy('HTTP/1.1 over TLS', true, 'http/1.1'),
  caddy('HTTP/2 in cleartext', false, 'h2'),
  caddy('HTTP/2 over TLS', true, 'h2'),
];
