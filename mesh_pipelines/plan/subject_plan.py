"""What the registry lacks of the contracts' schemas, and nothing that is not lacking.

A subject belongs to those who write by it. Producers that serialize by the latest version take up whatever was
registered last, so a schema of ours that is narrower than theirs would cost them fields. What counts is whether events
can be read as the contract, which is the decoder's to say: names of types and further fields play no part in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from mesh_pipelines.contract.model import Compatibility, DataProduct, TopicSettings
from mesh_pipelines.contract.read.load import read_files
from mesh_pipelines.errors import ApplyRefused, EnvironmentFault, NotAuthorized
from mesh_pipelines.formats.format import BrokenReferences, Format, kind_of
from mesh_pipelines.formats.registered import format_of
from mesh_pipelines.plan.actions import Action, Findings, RegisterSchema, SetCompatibility, unsafe
from mesh_pipelines.plan.topic_plan import is_own
from mesh_pipelines.platform import Platform

# Of a subject that is made with its first schema, where the contract names no other.
_INITIAL = Compatibility.BACKWARD


def plan_subjects(platform: Platform, products: tuple[DataProduct, ...], found: Findings) -> list[Action]:
    """The schemas and modes to register; a registry that refuses to be asked of one product stops no other."""
    actions: list[Action] = []
    for product in products:
        if product.topic is None or not format_of(product.topic).registered:
            continue
        try:
            actions += _plan_subject(platform, product, product.topic, found)
        except EnvironmentFault as error:
            if error.transient:
                raise
            found.refuse(product.fqn, error)
        except BrokenReferences as error:
            found.refuse(product.fqn, _refusal(product, product.topic.subject, str(error)))
    return actions


def _plan_subject(platform: Platform, product: DataProduct, topic: TopicSettings, found: Findings) -> Iterator[Action]:
    chosen, subject = format_of(topic), topic.subject
    assert chosen.schemas is not None
    latest = platform.registry.latest(subject)
    register = RegisterSchema(product.fqn, subject, product.value_schema, chosen.schemas.type)
    if latest is None:
        yield register
        stated = topic.compatibility
        yield SetCompatibility(product.fqn, subject, None, str(stated or _INITIAL), is_stated=stated is not None)
        return
    registered = latest[1]
    if registered.type != chosen.schemas.type:
        reason = f"it is {kind_of(registered)}, and the contract says {chosen.name}"
        found.refuse(product.fqn, _refusal(product, subject, reason))
        return
    text = chosen.schemas.whole(registered)
    if _follows(platform, product, topic, text):
        if _is_missing(platform, register) and _is_allowed(platform, register, found, chosen):
            yield register
    elif (
        not _is_same(text, product.value_schema)
        and (reason := _unreadable(product, chosen, text))
        and _is_missing(platform, register)
    ):
        found.refuse(product.fqn, _refusal(product, subject, reason))
        return
    yield from _plan_compatibility(platform, product, topic, found)


def _plan_compatibility(
    platform: Platform, product: DataProduct, topic: TopicSettings, found: Findings
) -> Iterator[Action]:
    """The mode that a contract states for a subject that exists; without a word in it, the subject keeps its own."""
    if topic.compatibility is None:
        return
    try:
        before = platform.registry.compatibility(topic.subject)
    except NotAuthorized as error:
        found.note(product.fqn, f"mesh.compatibility could not be compared with the subject's ({error.message})")
        return
    if before != topic.compatibility:
        yield SetCompatibility(product.fqn, topic.subject, before, str(topic.compatibility))


def _follows(platform: Platform, product: DataProduct, topic: TopicSettings, latest: str) -> bool:
    """Whether the subject's latest schema is that of the contract applied before, which this one's is to follow.

    Where the schema is a file, it was fixed elsewhere: then it is ours to register only if the topic is.
    """
    if not platform.applied_hashes([product.fqn]).get(product.fqn):
        return False
    if not _is_same(latest, platform.product(product.fqn).value_schema):
        return False
    if not read_files(product.folder).schemas:
        return True
    topic_id = platform.streams.identity(topic.name)[1]
    return bool(topic_id and is_own(platform, product, topic_id))


def _is_missing(platform: Platform, wanted: RegisterSchema) -> bool:
    """Whether a subject does not have a schema, as its latest version or an earlier one, as far as may be looked at.

    Producers may register other schemas at any time, also older ones, so which is the latest says nothing.
    """
    try:
        return platform.registry.registered_id(wanted.subject, wanted.schema, wanted.schema_type) is None
    except NotAuthorized:
        return True


def _is_allowed(platform: Platform, wanted: RegisterSchema, found: Findings, chosen: Format) -> bool:
    """Whether the subject's mode allows a schema; refused where not."""
    assert chosen.schemas is not None
    reasons = platform.registry.objections(wanted.subject, wanted.schema, chosen.schemas)
    if reasons:
        listed = "; ".join(reasons)
        reason = f"{wanted.product}: the schema is not compatible with the one of subject {wanted.subject}: {listed}"
        found.refuse(wanted.product, unsafe(reason))
    return not reasons


def _unreadable(product: DataProduct, chosen: Format, text: str) -> str | None:
    """Why events of a registered schema cannot be read as the contract; None where they can."""
    from mesh_pipelines.formats.codec import Refused, codec_of

    try:
        codec_of(chosen).reader(product.fields, text, native=False)
    except Refused as error:
        return str(error)
    return None


def _refusal(product: DataProduct, subject: str, reason: str) -> ApplyRefused:
    return ApplyRefused(
        f"{product.fqn}: events by the latest schema of subject {subject} cannot be read as the contract: {reason}",
        next_step="write the fields in the contract as that schema has them",
    )


def _is_same(one: str, other: str) -> bool:
    """Whether two schemas are the same but for blanks and the order of their keys."""
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return one.strip() == other.strip()
