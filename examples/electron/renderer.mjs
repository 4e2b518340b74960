/** The window: the selected files, the available buttons, and the progress of the run. */
const element = (id) => document.getElementById(id)
const chosen = { model: undefined, data: undefined }
let running = false
let paused = false
let memory = ''

async function refresh() {
  const ready = chosen.model !== undefined && chosen.data !== undefined && !running
  element('train').disabled = !ready
  element('resume').disabled = !(ready && (await window.training.resumable()))
  element('pause').disabled = element('cancel').disabled = !running
  element('pause').textContent = paused ? 'Continue' : 'Pause'
}

function say(text) {
  element('status').textContent = text
}

for (const kind of ['model', 'data'])
  element(kind).onclick = async () => {
    chosen[kind] = (await window.training.pick(kind)) ?? chosen[kind]
    if (chosen[kind] !== undefined) element(`${kind}-path`).textContent = chosen[kind]
    await refresh()
  }

for (const how of ['train', 'resume'])
  element(how).onclick = () => {
    running = true
    window.training.start({ ...chosen, resume: how === 'resume' })
    say('Loading…')
    refresh()
  }

element('pause').onclick = () => window.training.tell(paused ? 'continue' : 'pause')
element('cancel').onclick = () => window.training.tell('cancel')

const heard = {
  plan({ peakBytes }) {
    memory = `${(peakBytes / 2 ** 20).toFixed(0)} MiB`
    say(`Reading the data. The run will take ${memory}.`)
  },
  step({ step, totalSteps, loss, tokensPerSecond }) {
    Object.assign(element('progress'), { value: step, max: totalSteps })
    say(
      `Step ${step} of ${totalSteps}: loss ${loss.toFixed(3)}, ${tokensPerSecond.toFixed(0)} tokens/s, ${memory}`,
    )
  },
  paused({ step }) {
    paused = true
    say(`Paused after step ${step}.`)
  },
  continued() {
    paused = false
  },
  done({ output }) {
    end(`The adapter is in ${output}.`)
  },
  canceled({ checkpoint }) {
    end(checkpoint === null ? 'Canceled.' : `Canceled. Resume goes on from ${checkpoint}.`)
  },
  error({ message }) {
    end(message)
  },
}

function end(text) {
  running = paused = false
  say(text)
}

window.training.onMessage((message) => {
  heard[message.type](message)
  refresh()
})
