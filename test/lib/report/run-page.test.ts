import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { usualView } from '../../../lib/report/run-chart.js'
import { runCharts } from '../../../lib/report/run-charts.js'
import { packRun, runFrom, unpackRun } from '../../../lib/report/run-data.js'
import { runPage } from '../../../lib/report/run-page.js'
import type { PrivacyReport } from '../../../lib/strategies/privacy-report.js'
import type { MetricsLine } from '../../../lib/train/records/event-schemas.js'
import { done, evaluation, memory, plan, samples, start, step, wholeRun } from './lines.js'

const page = (lines: readonly MetricsLine[], config: string | null = null) =>
  runPage(runFrom(lines), { name: 'orders', config })
const lede = (html: string) => /<p class="lede">(.*?)<\/p>/s.exec(html)?.[1]?.replaceAll(/<\/?b>/g, '')
const partsOfLoss = (html: string) =>
  /<section id="loss".*?<p>(.*?)<\/p>.*?data-chart="loss">(<svg.*?<\/svg>)/s.exec(html)?.slice(1) ?? []
const inlined = (html: string, tag: string) =>
  [...html.matchAll(new RegExp(`<${tag}>(.*?)</${tag}>`, 'gs'))].map(([, content]) => content as string)

describe('the page of a run', () => {
  const html = page([...wholeRun(100), samples({ prompt: 'How?', expected: 'So.', tuned: 'So.' })], 'r: 16')

  it('says what came of it, and has a section for all that the run recorded', () => {
    expect(lede(html)).toBe('Held-out loss fell from 7 before training to 1.20.')
    const titles = [...html.matchAll(/<h2[^>]*>(.*?)<\/h2>/g)].map(([, title]) => title)
    expect(titles).toEqual(['Loss', 'Answers', 'Memory', 'Configuration', 'Repeat'])
    for (const words of ['SmolLM2-135M', 'train.jsonl, 3,000 rows', 'LoRA, rank 16', '291,840', 'r: 16'])
      expect(html).toContain(words)
    expect(html).toContain('npx lowrank train run.yaml')
    expect(html).toContain(start.data.hash)
    expect(html).toContain('The run allocated what was planned.')
  })

  it('is complete without its script', () => {
    const charts = [...html.matchAll(/data-chart="(\w+)"><svg/g)].map(([, name]) => name)
    expect(charts).toEqual(['loss', 'rate', 'norm', 'speed', 'memory', 'resident'])
    expect(html).not.toMatch(/data-chart="\w+"><\/div>/)
  })

  it('has as many cells in each row of the memory table, also with a KV cache', () => {
    const rows = plan.rows.flatMap((row) =>
      row.category === 'loss' ? [{ category: 'kv_cache' as const, bytes: 3 << 20 }, row] : [row],
    )
    const html = page([start, { ...plan, rows }, memory(0), step(1), memory(1), done(1)])
    const [table = ''] = /<table class="tight">.*?<\/table>/s.exec(html) ?? []
    // The columns that each row fills, with cells that reach down from rows above.
    const filled: number[] = []
    for (const [index, [, row = '']] of [...table.matchAll(/<tr[^>]*>(.*?)<\/tr>/gs)].entries())
      for (const [, cell = ''] of row.matchAll(/<t[hd]([^>]*)>/g)) {
        const span = Number(/rowspan="(\d+)"/.exec(cell)?.[1] ?? 1)
        for (let down = 0; down < span; down++) filled[index + down] = (filled[index + down] ?? 0) + 1
      }
    expect(filled).toEqual([4, 4, 4, 4, 4, 4, 4])
    const names = [...table.matchAll(/<\/svg>(.*?)<\/th>/g)].map(([, name]) => name)
    expect(names).toEqual(['weights', 'adapters', 'kv cache', 'activations', 'loss'])
  })

  it('charts the metric that chooses the best step, and marks the step', () => {
    const eval_ = (step: number, exact_match: number) => evaluation(step, 2, { exact_match })
    const best = { metric: 'exact_match', step: 2, value: 0.75, last_step: 3, last_value: 0.5, kept_step: 2 }
    const lines = [eval_(0, 0), step(1), eval_(1, 0.5), step(2), eval_(2, 0.75), step(3), eval_(3, 0.5)]
    const own = { ...start, config: { metric_for_best_model: 'exact_match' } }
    for (const html of [page([own, plan, ...lines]), page([start, plan, ...lines, { ...done(3), best }])]) {
      expect(html).toMatch(
        /<b>Exact match<\/b><span class="read" data-read="metric">exact match 75% at step 2, the best</,
      )
      expect(html.match(/>best: step 2<\/text>/g)).toHaveLength(2)
    }
    const byLoss = page([
      start,
      plan,
      evaluation(0, 3),
      step(1),
      evaluation(1, 1),
      step(2),
      evaluation(2, 2),
      done(2),
    ])
    expect(byLoss).not.toContain('data-chart="metric"')
    expect(byLoss.match(/>best: step 1<\/text>/g)).toHaveLength(1)
  })

  it('tells of dots of held-out data where there are some: prompts alone have rewards, and no loss', () => {
    const rewards = { config: { task: 'grpo', metric_for_best_model: 'reward' } }
    const lines = (loss: number | null) => [
      { ...start, ...rewards },
      plan,
      { ...evaluation(0, 2, { reward: 0.25 }), loss },
      step(1, { reward: 0.5 }),
      { ...evaluation(1, 1, { reward: 0.75 }), loss },
      done(1),
    ]
    const [text = '', chart = ''] = partsOfLoss(page(lines(1)))
    expect(text).toContain('Dots: held-out data.')
    expect(chart).toContain('>held out</text>')
    const unevaluated = page([start, plan, step(1), step(2), done(2)])
    for (const html of [page(lines(null)), unevaluated]) {
      const [text = '', chart = ''] = partsOfLoss(html)
      expect(text).toMatch(/Line: the running mean\.$/)
      expect(chart).toContain('>training</text>')
      expect(chart).not.toContain('held out')
    }
    expect(page(lines(null))).toContain('reward 0.750 at step 1, the best')
    const { loss } = runCharts(runFrom(lines(null)), usualView(runFrom([])))
    expect(loss?.reads?.words(0)).toBe('step 1 · training 7.01, mean 7.01 · 1.0 s')
  })

  it('counts Node.js in both the resident and the planned memory', () => {
    const MIB = 2 ** 20
    const lines = [start, { ...plan, runtime_bytes: 90 * MIB }, memory(0), step(1), memory(1), done(1)]
    const html = page(lines)
    expect(html).toContain(
      '<dt>Memory of the process</dt><dd class="value">150 MiB</dd><dd class="aside">planned 120 MiB, of it 90.0 MiB Node.js</dd>',
    )
    expect(html).toContain('>planned with Node.js</text>')
    // Of a run whose record does not say what Node.js held, nothing is compared.
    expect(page([start, plan, memory(0), step(1), memory(1), done(1)])).not.toContain(
      'planned with Node.js</text>',
    )
  })

  it('allows its own style and script by their hashes, and nothing else', () => {
    const [policy = ''] = /default-src[^"]*/.exec(html) ?? []
    const [style = '', ...styles] = inlined(html, 'style')
    const [script = '', ...scripts] = inlined(html, 'script')
    expect([styles, scripts]).toEqual([[], []])
    const hash = (content: string) => `'sha256-${createHash('sha256').update(content).digest('base64')}'`
    expect(policy).toBe(
      `default-src 'none'; style-src ${hash(style)}; script-src ${hash(script)}; img-src data:; base-uri 'none'; form-action 'none'`,
    )
    expect(html).not.toMatch(/ style=| on\w+="|unsafe-|(src|href)="(?!data:,|#)/)
    expect(html.replace(/xmlns="[^"]*"/g, '')).not.toMatch(/https?:\/\/(?!example)/)
  })

  it('stays under 600 KB for 10,000 steps', () => {
    const lines = wholeRun(10_000).flatMap((line) =>
      line.event === 'step' && line.step % 100 === 0
        ? [line, evaluation(line.step, 1 + 50 / line.step), memory(line.step)]
        : [line],
    )
    const { length } = Buffer.from(page(lines))
    expect(length).toBeGreaterThan(100_000)
    expect(length).toBeLessThan(600_000)
  })

  it('tells bad news: a loss that has risen, a stop, a failure, a loss that is none', () => {
    const begun = [start, plan, evaluation(0, 7), step(1), evaluation(1, 2), step(2), evaluation(2, 3)]
    const risen = page([...begun, done(2)])
    expect(lede(risen)).toBe(
      'Held-out loss fell from 7 before training to 3. It was lowest at step 1, 2, and has risen since.',
    )
    expect(risen).toContain('<b>Held-out loss has risen since step 1</b>')
    const stopped = page([...begun, { event: 'stopped', time: 1, step: 2, path: 'out/checkpoint-2' }])
    expect(lede(stopped)).toContain('The run was stopped after step 2 of 10.')
    expect(stopped).toContain('continues from <code>out/checkpoint-2</code>')
    const failed = page([
      ...begun,
      { event: 'error', time: 1, step: 2, code: 'DIVERGED', message: 'loss is NaN' },
    ])
    expect(lede(failed)).toMatch(/^The run failed after step 2: loss is NaN\./)
    expect(failed).toContain('<b>DIVERGED</b>: loss is NaN')
    const killed = page(begun)
    expect(lede(killed)).toContain('The run is at step 2, or ended there without a word.')
    const lost = page([start, plan, step(1), step(2, { loss: null }), step(3, { loss: Number.NaN })])
    expect(lede(lost)).toContain('2 steps have no finite loss.')
    for (const html of [risen, stopped, failed, killed, lost])
      expect(html.replace(/<script>.*<\/script>/s, '')).not.toMatch(/>NaN|"NaN|Infinity|undefined/)
  })

  it.each([
    ['nothing', []],
    ['a start alone', [start, plan]],
    ['one step', [start, plan, step(1), done(1)]],
    ['one evaluation', [start, plan, evaluation(0, 3), step(1), done(1)]],
    [
      'zeros',
      [start, plan, step(1, { loss: 0, grad_norm: 0, tokens_per_second: 0, learning_rate: 0 }), done(1)],
    ],
    ['one spike', [...wholeRun(50).slice(0, -1), step(51, { loss: 1e30 }), done(51)]],
    ['no start, as of a record of an earlier version', [plan, step(1), step(2), done(2)]],
  ] as [string, MetricsLine[]][])('takes a run of %s', (_, lines) => {
    const html = page(lines)
    expect(html).toContain('<h1>orders</h1>')
    expect(html.replace(/<script>.*<\/script>/s, '')).not.toMatch(/>NaN|"NaN|[ "]Infinity|undefined/)
  })

  it('shows what evaluations measured beside the loss', () => {
    const html = page([
      ...[start, plan, evaluation(0, 3, { f1: 0.25, scores: { '<own>': 2 } }), step(1)],
      ...[evaluation(1, 2, { f1: 0.75, scores: { '<own>': 4 } }), done(1)],
    ])
    expect(html).toContain('<dt>F1</dt><dd class="value">75%</dd><dd class="aside">25% at first</dd>')
    expect(html).toContain('<dt>&lt;own&gt;</dt><dd class="value">4</dd>')
    expect(html).toMatch(/>F1<\/th><th[^>]*>&lt;own&gt;<\/th>/)
    expect(html).toMatch(/>75%<\/td><td[^>]*>4<\/td>/)
  })

  it('shows how answers change from evaluation to evaluation', () => {
    const answer = (at: number, ...texts: string[]): MetricsLine => ({
      ...{ event: 'answers', time: start.time + at, step: at },
      rows: texts.map((text, row) => ({
        ...{ prompt: `<q${row}>`, system: null, expected: 'Blue.', answer: text, cut: false },
      })),
    })
    const html = page([
      ...[
        start,
        plan,
        evaluation(0, 3),
        answer(0, 'Red', 'No'),
        step(1),
        evaluation(1, 2),
        answer(1, 'Red', 'No'),
      ],
      ...[step(2), evaluation(2, 1), answer(2, 'Blue.', 'No'), done(2)],
    ])
    const cards = /id="evaluation-answers".*?<div class="cards">(.*?)<\/section>/s.exec(html)?.[1] ?? ''
    expect(cards.match(/<article/g)).toHaveLength(2)
    expect(cards).toContain('&lt;q0&gt;')
    const titles = [...cards.matchAll(/<h3>(.*?) <span class="(right|wrong)"/g)].map(([, ...of]) =>
      of.join(' '),
    )
    expect(titles).toEqual(['Step 0 to 1 wrong', 'Step 2 right', 'Step 0 to 2 wrong'])
  })

  it('shows what models and users wrote as text', () => {
    const hostile = '</script><script>alert(1)</script>'
    const right = '\u05E9\u05DC\u05D5\u05DD \u202Eabc'
    const long = `${'x'.repeat(10_000)}`
    const html = page(
      [
        { ...start, command: hostile, model: { ...start.model, name: hostile }, config: { note: hostile } },
        plan,
        step(1),
        done(1),
        samples(
          { prompt: hostile, expected: hostile, base: hostile, tuned: right },
          { tuned: long, prompt: long },
        ),
      ],
      hostile,
    )
    expect(inlined(html, 'script')).toHaveLength(1)
    expect(html).not.toContain('<script>alert')
    expect(html).toContain(`dir="auto">${right}`)
    expect(html).toContain('(10,000 characters)')
    const data = JSON.parse(/id="data">(.*?)<\/script>/s.exec(html)?.[1] ?? '') as {
      samples: { rows: { base: string }[] }
    }
    expect(data.samples.rows[0]?.base).toBe(hostile)
  })

  it('marks words of an answer that differ, where most agree', () => {
    const expected = '{"client": "Ann", "place": "Rye", "year": 2040}'
    const html = page([
      start,
      plan,
      step(1),
      done(1),
      samples({ expected, base: 'kettle', tuned: expected.replace('Rye', 'Bath') }),
    ])
    expect(html).toContain('<mark>Bath</mark>')
    expect(html).not.toContain('<mark>kettle</mark>')
    expect(html).toContain('✗ differs')
  })

  it('compares answers behind their reasoning', () => {
    const [reasoning, expected] = [
      '<think>Forty less eight, as they were sold.</think>',
      'There are 32 bowls left.',
    ]
    const answers = { base: `${reasoning}${expected.replace('32', '31')}`, tuned: `${reasoning}${expected}` }
    const html = page([start, plan, step(1), done(1), samples({ expected, ...answers })])
    expect(html).toContain('sold.&lt;/think&gt;There are <mark>31</mark> bowls left.')
    expect(html).toContain('After <span class="right">✓ right</span>')
  })

  it('draws ranks of 64 layers', () => {
    const ranks = Object.fromEntries(
      Array.from({ length: 64 }, (_, layer) => layer).flatMap((layer) =>
        ['q_proj', 'v_proj', 'down_proj'].map((kind) => [`model.layers.${layer}.x.${kind}`, layer % 13]),
      ),
    )
    const html = page([
      {
        ...start,
        strategy: { name: 'adalora', init_r: 12, target_r: 4 },
        // As in files of older versions.
        strategy_label: undefined,
      },
      ...[plan, step(1), { event: 'ranks', time: 1, step: 1, ranks } as const, step(2)],
      ...[{ event: 'ranks', time: 2, step: 2, ranks } as const, done(2)],
    ])
    expect(html).toContain('AdaLoRA, rank 12 to 4')
    expect(html).toContain('layer 63')
    expect(html).toMatch(/data-chart="rankHistory"><svg/)
    expect(lede(html)).toMatch(/ of 2,304 ranks are left\./)
  })

  it('draws importances that a probe found, also within another strategy', () => {
    const importances = {
      'model.layers.0.self_attn.q_proj': 0.75,
      'model.layers.1.self_attn.q_proj': 0.25,
    }
    const found = { name: 'lora-drop', threshold: 0.7, scope: 'type', importances }
    const drop = { ...found, keep: ['model.layers.0.self_attn.q_proj'] }
    for (const strategy of [drop, { name: 'qlora', adapter: drop }]) {
      const html = page([{ ...start, strategy }, plan, step(1), done(1)])
      expect(html).toMatch(/data-chart="importances"><svg[\s\S]*layer 1 q_proj: 25%/)
      expect(html).toMatch(/data-chart="keptPairs"><svg[\s\S]*layer 1 q_proj: shared/)
      expect(html).toContain('with 70% of it together')
      expect(lede(html)).toContain('1 of 2 linears keep a pair of their own.')
    }
    const unprobed = { ...start, strategy: { ...found, keep: [], importances: null } }
    expect(page([unprobed, plan, step(1), done(1)])).not.toContain('data-chart="importances"')
  })

  it('of a private run says that it is not to be handed on', () => {
    const privacy: PrivacyReport = {
      ...{ epsilon: 1.5, delta: 1e-5, final_epsilon: 3, unit: 'user', population: 100, cohort: 10 },
      ...{ sampling_rate: 0.1, sampling: 'poisson', noise_multiplier: 1, clipping_norm: 0.5, rounds: 2 },
      ...{ total_rounds: 4, accountant: 'rdp', private: true, promise: 'Each client is protected.' },
    }
    const round = { epsilon: 1.2, rank: null, cohort: 9, clipped_share: 0.5 }
    const lines = [
      start,
      { ...plan, privacy },
      step(1, round),
      step(2, { ...round, loss: null }),
      { ...done(2), privacy },
    ]
    const html = page(lines)
    expect(html).toContain('<b>Keep this page to yourself.</b>')
    expect(lede(html)).toContain('The adapter promises every client ε ≤ 3 at δ = 1.0e−5.')
    expect(lede(html)).not.toContain('no finite loss')
    expect(html).not.toContain('bit for bit')
    const simulated = { ...privacy, private: false }
    expect(page([start, { ...plan, privacy: simulated }, step(1, round)])).toContain('<b>Not private.</b>')
  })
})

describe('the data of a run', () => {
  it('come back from their page as they were, to what a picture shows', () => {
    const run = runFrom(wholeRun(300))
    const back = unpackRun(JSON.parse(JSON.stringify(packRun(run))))
    expect(back.columns.step).toEqual(run.columns.step)
    expect(back.columns.tokens).toEqual(run.columns.tokens)
    for (const [index, loss] of run.columns.loss.entries())
      expect(back.columns.loss[index]).toBeCloseTo(loss as number, 3)
    expect({ ...back, columns: null }).toEqual({ ...run, columns: null })
  })

  it('of a resumed run drop what is done again', () => {
    const again = { ...start, resumed_from: 3 }
    const run = runFrom([
      start,
      plan,
      step(1),
      step(2),
      step(3),
      step(4),
      evaluation(4, 1),
      again,
      plan,
      step(4),
      step(5),
    ])
    expect(run.columns.step).toEqual([1, 2, 3, 4, 5])
    expect(run.evaluations).toEqual([])
    expect(run.state).toBe('training')
  })
})
