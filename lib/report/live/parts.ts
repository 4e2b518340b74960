/** The parts that a live page adds to the report of the run: the bar, the box for questions, and the dialog. */

/** State, numbers, and buttons, always visible at the top. */
export const liveBar = `<div class="bar" role="region" aria-label="State of the run">
<div class="in">
<span class="state waiting" id="state" role="status">Waiting</span>
<div class="nums" id="numbers"></div>
<div class="acts" id="acts" hidden>
<button type="button" class="b" id="pause">Pause</button>
<button type="button" class="b" id="stop">Stop and save</button>
</div>
</div>
<progress id="progress" aria-label="Steps made" value="0" max="1"></progress>
<div class="in" id="message" aria-live="polite" hidden></div>
</div>
<noscript><p class="note warn">This page follows the run with JavaScript, which is switched off.</p></noscript>`

export const askSection = `<section id="ask" aria-labelledby="ask-h" hidden>
<div class="side"><h2 id="ask-h">Ask it now</h2><p>The adapter as it is, asked between two steps. Training waits for the answer, and goes on as if nothing had been asked.</p></div>
<div class="body">
<form class="ask" id="ask-form">
<textarea id="prompt" rows="2" maxlength="20000" aria-label="Question" placeholder="A question to the adapter" required></textarea>
<button type="submit" class="b main" id="send">Ask</button>
</form>
<p class="fine" id="asking" role="status"></p>
<div class="answers" id="answers"></div>
</div>
</section>`

export const stopDialog = `<dialog id="sure" aria-labelledby="sure-h">
<form method="dialog">
<h2 id="sure-h">Stop and save?</h2>
<p>The current step is finished and a checkpoint saved. Later, <code>--resume</code> continues from it with the same numbers.</p>
<div class="acts">
<button type="submit" class="b" value="" autofocus>Keep training</button>
<button type="submit" class="b main" value="stop">Stop and save</button>
</div>
</form>
</dialog>`
