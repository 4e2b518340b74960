/** The page of a service: it holds no data, and its script asks for them with the key of the address that was opened. */
import { type MadePage, page } from './run-page.js'

const content = `<header class="top">
<h1>Models and jobs</h1>
<p class="lede" id="state" role="status">Connecting …</p>
<form class="ask" id="key-form" hidden>
<input id="key" type="password" autocomplete="off" aria-label="API key" placeholder="The API key that the server printed" required>
<button type="submit" class="b main">Open</button>
</form>
</header>
<main id="main" hidden>
<section id="ask" aria-labelledby="ask-title">
<div class="side"><h2 id="ask-title">Ask</h2><p>The same question to a model and to another beside it, such as its base, with the likeliest tokens.</p></div>
<div class="body">
<div class="pair">
<label>Model <select id="model"></select></label>
<label>Beside it <select id="beside"></select></label>
</div>
<form class="ask" id="ask-form">
<textarea id="prompt" rows="2" maxlength="20000" aria-label="Question" placeholder="A question to the models" required></textarea>
<button type="submit" class="b main" id="send">Ask</button>
</form>
<p class="fine" id="asking" role="status"></p>
<div id="answers"></div>
</div>
</section>
<section id="jobs" class="wide" aria-labelledby="jobs-title">
<div class="side"><h2 id="jobs-title">Jobs</h2><p>The newest first. Losses are nats per token that is trained on; those of jobs with other data do not compare.</p></div>
<div class="body" id="jobs-body"></div>
</section>
<section id="models" aria-labelledby="models-title">
<div class="side"><h2 id="models-title">Models</h2><p>The names that clients ask for.</p></div>
<div class="body" id="models-body"></div>
</section>
</main>
<footer>Served by lowrank. Closing this page changes nothing.</footer>
<noscript><p class="note warn">This page asks the server with JavaScript, which is switched off.</p></noscript>`

export function servicePage(): MadePage {
  return page({
    ...{ title: 'Models and jobs', styles: ['run.css', 'live.css', 'runs.css', 'service.css'] },
    ...{ script: 'service-script.js', connects: true, skip: 'the models and jobs', content },
  })
}
