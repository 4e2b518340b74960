import { expect, it } from 'vitest'
import { type DatasetRow, openDataset } from '../../../lib/data/dataset.js'
import { datasetRemarks } from '../../../lib/data/dataset-remarks.js'
import { emptyStats } from '../../../lib/data/encoded-dataset.js'
import { RowSurvey } from '../../../lib/data/row-survey.js'
import { scratchFile } from '../scratch.js'

async function surveyed(text: string, format: DatasetRow['format'], stripLabels = false) {
  const survey = new RowSurvey(stripLabels)
  const path = scratchFile('a.csv', text)
  for await (const row of openDataset(path, { format, stripLabels })) survey.add(row)
  const { findings } = survey
  return {
    findings,
    remarks: datasetRemarks({ format, columns: [] }, { ...emptyStats(), ...findings }, {}),
    path,
  }
}

const classes = (labels: readonly string[]) =>
  `text,label\n${labels.map((label) => `a,"${label}"`).join('\n')}\n`

it('counts classes and warns of near twins and of classes with one row', async () => {
  const labels = ['sports', 'sports', 'Sports ', 'arts', 'arts', 'misc']
  const { findings, remarks } = await surveyed(classes(labels), 'classification')
  expect(findings.classes).toHaveLength(4)
  expect(remarks).toEqual([
    'classes differ only by white space or case: "sports" (2) and "Sports " (1); strip_labels: true makes one of each such group',
    expect.stringMatching(/^2 classes have one row: "Sports ", "misc"; /),
  ])
})

it('has one class for each group of near twins where labels are stripped', async () => {
  const { findings, remarks } = await surveyed(
    classes(['sports', 'sports', 'Sports ', 'arts', ' arts']),
    'classification',
    true,
  )
  expect(findings.classes).toEqual([
    { label: 'sports', rows: 3 },
    { label: 'arts', rows: 2 },
  ])
  expect(remarks).toEqual([])
})

it('warns of completions that are near twins, but not of free text', async () => {
  const pairs = (completions: readonly string[]) =>
    `prompt,completion\n${completions.map((one) => `a,"${one}"`).join('\n')}\n`
  const twins = await surveyed(pairs(['yes', 'yes', 'Yes', 'no', 'no', 'no ']), 'prompt_completion')
  expect(twins.remarks).toEqual([
    expect.stringMatching(/^completions differ only by white space or case: .*"no" \(2\) and "no " \(1\)/),
  ])
  const free = await surveyed(pairs(['One.', 'Two.', 'Three.']), 'prompt_completion')
  expect(free.findings.classes).toEqual([])
  expect(free.remarks).toEqual([])
})

it('warns of the traces of wrong conversions with their first row', async () => {
  const { findings, remarks, path } = await surveyed('text\ngood\nit\u0092s bad\n\ufffd\n', 'text')
  expect(findings.damagedText).toMatchObject({ rows: 2, first: { line: 3, character: '\u0092' } })
  expect(remarks[0]).toMatch(
    /^2 rows have characters that a wrong conversion leaves, such as U\+0092, the first one in /,
  )
  expect(remarks[0]).toContain(`${path}, line 3; `)
})

it('warns of UTF-8 that was read as windows-1252', async () => {
  for (const [right, wrong] of [
    ['ü', 'Ã¼'],
    ['É', 'Ã‰'],
    ['’', 'â€™'],
    ['°', 'Â°'],
  ] as const) {
    const { remarks } = await surveyed(`text\n${right}\na${wrong}b\n`, 'text')
    expect(remarks).toEqual([
      expect.stringMatching(`^1 row has characters that a wrong conversion leaves, such as "${wrong}"`),
    ])
    expect(remarks[0]).toContain(
      'the text was UTF-8 and was read as windows-1252: go back to the file before its conversion',
    )
  }
  const { remarks } = await surveyed('text\nNÃO À ÂGE 5 € “x” Â.\n', 'text')
  expect(remarks).toEqual([])
})
