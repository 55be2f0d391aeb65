/** The page that a browser sees at `/` of the demo: a steady stream of requests, by connection, while you drain. */

export function landingPage(operator: string | undefined): string {
  const command = operator === undefined ? '' : `curl -X POST ${operator}/connections/<b data-id>ID</b>/drain`;
  const drain =
    operator === undefined
      ? '<p>The operator endpoint is off; start with <code>--operator 8400</code> to drain connections.</p>'
      : `<p>Drain the connection that this page is using, in a terminal:</p><pre>${command}</pre>`;
  return PAGE.replace('<!--drain-->', drain);
}

const PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>lastcall</title>
<link rel="icon" href="data:,">
<style>
  :root { color-scheme: light dark; --line: color-mix(in srgb, CanvasText 16%, Canvas); --soft: color-mix(in srgb, CanvasText 62%, Canvas); }
  body { font: 16px/1.55 system-ui, sans-serif; max-width: 46rem; margin: 3rem auto; padding: 0 1.25rem; }
  h1 { font-size: 1.75rem; margin: 0; letter-spacing: -.02em; }
  h2 { font-size: 1rem; margin: 2.25rem 0 .5rem; }
  p { margin: .4rem 0; }
  .soft, small { color: var(--soft); }
  pre, code { font: .875rem/1.5 ui-monospace, monospace; }
  pre { padding: .7rem .9rem; border: 1px solid var(--line); border-radius: 6px; overflow-x: auto; user-select: all; }
  #strip { display: flex; flex-wrap: wrap; gap: 4px; min-height: 20px; margin: .75rem 0; }
  #strip i { width: 12px; height: 12px; border-radius: 3px; }
  #strip i.failed { background: #d00 !important; outline: 2px solid #d00; outline-offset: 1px; }
  dl { display: flex; gap: 2.5rem; margin: 1.25rem 0 .5rem; flex-wrap: wrap; }
  dt { color: var(--soft); font-size: .8125rem; }
  dd { margin: 0; font-size: 1.375rem; font-variant-numeric: tabular-nums; }
  button { font: inherit; padding: .35rem .9rem; border-radius: 6px; border: 1px solid var(--line); background: transparent; color: inherit; cursor: pointer; }
  button:hover { border-color: currentColor; }
  button:disabled { opacity: .5; cursor: default; }
  #log { min-height: 6.2rem; max-height: 12rem; overflow-y: auto; white-space: pre-wrap; user-select: text; }
</style>
<h1>lastcall</h1>
<p class="soft">This page sends two requests a second. Each square is an answer, coloured by the connection it came on.</p>
<dl>
  <div><dt>protocol</dt><dd id="protocol">–</dd></div>
  <div><dt>connection</dt><dd id="connection">–</dd></div>
  <div><dt>answered</dt><dd id="answered">0</dd></div>
  <div><dt>failed</dt><dd id="failed">0</dd></div>
</dl>
<div id="strip" aria-hidden="true"></div>
<!--drain-->
<p class="soft">The colour changes, the failures stay at 0: every request that was on its way was answered first.</p>
<h2>A request in flight</h2>
<p><button id="slow">Start a 10 s request</button> <button id="upload">Upload 8 MiB</button> <small id="said" aria-live="polite"></small></p>
<h2>Events</h2>
<p class="soft">An event stream ends on the drain signal and names when to come back; the browser does.</p>
<pre id="log"></pre>
<script>
  const byId = (id) => document.getElementById(id);
  let answered = 0, failed = 0;
  const square = (title, colour) => {
    const i = document.createElement('i');
    i.title = title;
    if (colour) i.style.background = colour; else i.className = 'failed';
    byId('strip').append(i);
    while (byId('strip').childElementCount > 132) byId('strip').firstChild.remove();
  };
  const ask = async () => {
    try {
      const { protocol, connection } = await (await fetch('/', { headers: { accept: 'application/json' } })).json();
      byId('protocol').textContent = protocol;
      byId('connection').textContent = connection;
      for (const b of document.querySelectorAll('[data-id]')) b.textContent = connection;
      byId('answered').textContent = ++answered;
      square('connection ' + connection, 'hsl(' + (connection * 137.5) % 360 + ' 60% 55%)');
    } catch {
      byId('failed').textContent = ++failed;
      square('failed');
    }
  };
  ask();
  setInterval(ask, 500);
  const run = (button, started, request) => byId(button).addEventListener('click', async () => {
    byId(button).disabled = true;
    byId('said').textContent = started;
    try { byId('said').textContent = await (await request()).text(); }
    catch (error) { byId('said').textContent = 'failed: ' + error.message; }
    byId(button).disabled = false;
  });
  run('slow', 'waiting …', () => fetch('/slow?ms=10000'));
  run('upload', 'sending …', () => fetch('/upload', { method: 'POST', body: new Uint8Array(8 << 20) }));
  const log = (line) => { byId('log').textContent = (line + '\\n' + byId('log').textContent).slice(0, 4000); };
  const source = new EventSource('/events');
  source.onmessage = (event) => log(event.data);
  source.addEventListener('drain', (event) => log(event.data));
</script>
</html>
`;
