/** Script of the report page of a finished run. */
import { type PackedRun, unpackRun } from '../run-data.js'
import { mountRun } from './run-view.js'

const data = document.getElementById('data')?.textContent ?? ''
mountRun(document.body, unpackRun(JSON.parse(data) as PackedRun))
