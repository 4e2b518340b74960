"""
What programs do with OpenAI's client for Python: fine-tune a model, and ask it in every way that the client knows. The client
takes the base URL and the key from OPENAI_BASE_URL and OPENAI_API_KEY; nothing else tells it apart from OpenAI's own service.
Prints what it got as JSON.

    python fine_tuning.py NUMBERS.jsonl CALLS.jsonl
"""

import asyncio
import json
import sys
import time

import openai
from openai import AsyncOpenAI, OpenAI, pydantic_function_tool
from pydantic import BaseModel, ConfigDict, Field

client = OpenAI()
numbers, calls = sys.argv[1:]


class Boat(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str = Field(max_length=12)
    crew: int = Field(ge=1, le=9)


class weather(BaseModel):
    """The weather of a town"""

    town: str


def trained(path, model, **options):
    """The job that has trained a model on a file."""
    with open(path, "rb") as rows:
        file = client.files.create(file=rows, purpose="fine-tune")
    assert client.files.wait_for_processing(file.id).status == "processed"
    job = client.fine_tuning.jobs.create(training_file=file.id, model=model, seed=1, **options)
    while job.status not in ("succeeded", "failed", "cancelled"):
        time.sleep(0.2)
        job = client.fine_tuning.jobs.retrieve(job.id)
    assert job.status == "succeeded", job.error
    return job


def fine_tuning():
    job = trained(numbers, "gpt-4o-mini", suffix="numbers")
    events = [event.message for event in client.fine_tuning.jobs.list_events(job.id, limit=10)]
    checkpoints = [one.step_number for one in client.fine_tuning.jobs.checkpoints.list(job.id)]
    results = client.files.content(job.result_files[0]).text
    return {
        "model": job.fine_tuned_model,
        "epochs": job.hyperparameters.n_epochs,
        "trained_tokens": job.trained_tokens,
        "events": [events[-1], events[0]],
        "steps": sum(message.startswith("Step ") for message in events),
        "checkpoints": checkpoints,
        "columns": results.splitlines()[0],
        "jobs": [one.id for one in client.fine_tuning.jobs.list()] == [job.id],
        "listed": job.fine_tuned_model in [one.id for one in client.models.list()],
    }


def chat(model):
    messages = [{"role": "user", "content": "Say the number 7"}]
    request = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 16}
    whole = client.chat.completions.create(**request, logprobs=True).choices[0]
    pieces = [
        chunk.choices[0].delta.content or ""
        for chunk in client.chat.completions.create(**request, stream=True)
    ]
    with client.chat.completions.stream(**request) as stream:
        helped = stream.get_final_completion().choices[0].message.content
    item = client.responses.create(model=model, input=messages, temperature=0, max_output_tokens=16)
    with client.responses.stream(model=model, input=messages, temperature=0, max_output_tokens=16) as stream:
        events = [event.type for event in stream]
        last = stream.get_final_response().output_text
    text = "".join(token.token for token in whole.logprobs.content)
    return {
        "text": whole.message.content,
        "others": ["".join(pieces), helped, item.output_text, last, text],
        "events": [events[0], events[-1]],
        "continued": client.completions.create(model=model, prompt="Number", max_tokens=4).usage.completion_tokens,
    }


async def at_once(model):
    async with AsyncOpenAI() as several:
        answers = await asyncio.gather(*[
            several.chat.completions.create(
                model=model,
                messages=[{"role": "user", "content": f"Say the number {number}"}],
                temperature=0,
                max_tokens=16,
            )
            for number in range(8)
        ])
    return [answer.choices[0].message.content for answer in answers]


def structured(model):
    question = [{"role": "user", "content": "Describe a boat in JSON."}]
    chosen = client.chat.completions.parse(model=model, messages=question, response_format=Boat, seed=1)
    item = client.responses.parse(model=model, input=question, text_format=Boat)
    answers = [chosen.choices[0].message.parsed, item.output_parsed]
    assert all(isinstance(answer, Boat) for answer in answers)
    return [answer.model_dump() for answer in answers]


def called():
    """Trains on calls, and answers the one that comes."""
    layers = {"name": "lora", "r": 8, "modules_to_save": ["embed_tokens", "lm_head"]}
    job = trained(
        calls,
        "calling",
        method={
            "type": "supervised",
            "supervised": {
                "hyperparameters": {"n_epochs": 10, "batch_size": 4, "learning_rate_multiplier": 10}
            },
        },
        extra_body={"lowrank": {"strategy": layers, "max_seq_length": 128}},
    )
    messages = [{"role": "user", "content": "Rain in Bonn?"}]
    request = {
        "model": job.fine_tuned_model,
        "tools": [pydantic_function_tool(weather)],
        "temperature": 0,
        "max_tokens": 64,
    }
    message = client.chat.completions.parse(messages=messages, **request).choices[0].message
    call = message.tool_calls[0]
    with client.chat.completions.stream(messages=messages, **request) as stream:
        streamed = stream.get_final_completion().choices[0].message.tool_calls[0]
    messages += [message, {"role": "tool", "tool_call_id": call.id, "content": "rain"}]
    answer = client.chat.completions.create(messages=messages, **request)
    return {
        "call": [call.function.name, call.function.parsed_arguments.town],
        "streamed": streamed.function.arguments,
        "answer": answer.choices[0].message.content,
    }


def uploaded():
    with open(numbers, "rb") as rows:
        content = rows.read()
    upload = client.uploads.upload_file_chunked(
        file=content,
        filename="parts.jsonl",
        bytes=len(content),
        mime_type="application/jsonl",
        purpose="fine-tune",
        part_size=1000,
    )
    same = client.files.content(upload.file.id).content == content
    return [upload.status, same, client.files.delete(upload.file.id).deleted]


def refused(request):
    try:
        request()
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.code, error.param]


def refusals(model):
    messages = [{"role": "user", "content": "Hello"}]
    stranger = OpenAI(api_key="sk-guess")
    return [
        refused(lambda: client.chat.completions.create(model="gpt-9", messages=messages)),
        refused(lambda: client.chat.completions.create(model=model, messages=messages, temperature=3)),
        refused(lambda: client.fine_tuning.jobs.create(model="base", training_file="file-x")),
        refused(lambda: stranger.models.list()),
    ]


tuned = fine_tuning()
model = tuned["model"]
print(
    json.dumps({
        "tuned": tuned,
        "chat": chat(model),
        "at_once": asyncio.run(at_once(model)),
        "structured": structured(model),
        "called": called(),
        "uploaded": uploaded(),
        "refusals": refusals(model),
        "deleted": client.models.delete(model).deleted,
    })
)
