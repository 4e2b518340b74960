/** Script of the page of a run that is over. */
import { type PackedRun, unpackRun } from '../run-data.js'
import { mountRun } from './run-view.js'

const data = document.getElementById('data')?.textContent ?? ''
mountRun(document.body, unpackRun(JSON.parse(data) as PackedRun))
