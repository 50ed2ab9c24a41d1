"""Who the features are about."""

from feast import Entity, ValueType

shop = Entity(name="shop", join_keys=["shop"], value_type=ValueType.STRING)
courier = Entity(name="courier", join_keys=["courier"], value_type=ValueType.STRING)
